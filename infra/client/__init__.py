"""The Python client of the API: it knows the schemas, and nothing of serving."""
