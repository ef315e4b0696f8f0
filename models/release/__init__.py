"""One space of vectors, weights and a ranker: in memory, on disk, read and written."""
