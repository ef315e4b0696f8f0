"""Reading files: layouts, encodings, values, MovieLens."""
