"""Metrics to tables, figures and the answer to "did it help"."""
