"""Writes over HTTP."""
