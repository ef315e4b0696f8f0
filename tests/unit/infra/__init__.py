"""Plumbing and programs."""
