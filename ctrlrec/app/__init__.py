"""What people look at: recommendations, and models to recommend with."""
