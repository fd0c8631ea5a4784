"""What can be asked for: controls, and instructions that hold them."""
