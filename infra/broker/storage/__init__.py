"""A partition on disk: segments, their index, recovery at a start, the last batches of producers."""
