"""Proximal policy optimisation with rule rewards (Section 2.3)."""
