"""A partition on disk: segments, their index, what is recovered at a start, what producers sent last."""
