"""Recommendations for people: commands, the page, and released models."""
