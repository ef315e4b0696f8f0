"""Rebuilds a generation beside the live one: filled from a snapshot and the log, then swapped in."""
