"""Sequential recommenders that can be the teacher."""
