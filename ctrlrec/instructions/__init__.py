"""The instruction set: controls, wording, labels (spec section 3)."""
