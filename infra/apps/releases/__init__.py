"""Releases as an operator sees them: listed, checked, promoted, rolled back, compared."""
