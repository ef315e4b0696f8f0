"""The compiled kernel against its definitions."""
