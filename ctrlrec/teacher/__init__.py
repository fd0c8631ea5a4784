"""The teacher: sequential recommenders, their training, and ranks of items given a history."""
