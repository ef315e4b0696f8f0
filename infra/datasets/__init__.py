"""Data to import: MovieLens where it lies, generated where it does not."""
