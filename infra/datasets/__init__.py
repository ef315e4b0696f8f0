"""Data to import: files of any layout as rows of the API, MovieLens where it is found or can be fetched, a
generated catalogue elsewhere."""
