"""Supervised fine-tuning on instructions (Section 2.2)."""
