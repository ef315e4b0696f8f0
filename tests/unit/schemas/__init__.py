"""Schemas, by themselves."""
