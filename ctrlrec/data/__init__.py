"""Raw logs to catalogue and leave-one-out sequences (spec section 2)."""
