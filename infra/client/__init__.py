"""The Python client of the API: knows schemas only."""
