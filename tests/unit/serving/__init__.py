"""Serving, without a server."""
