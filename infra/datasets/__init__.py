"""Data to import: MovieLens where its files are found or can be fetched, a generated catalogue elsewhere."""
