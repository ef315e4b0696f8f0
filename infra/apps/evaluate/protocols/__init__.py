"""Protocols of an offline evaluation: what is history, which choices are to be found, and when."""
