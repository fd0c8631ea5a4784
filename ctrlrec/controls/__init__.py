"""Controls, and instructions that hold them."""
