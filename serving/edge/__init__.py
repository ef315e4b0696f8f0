"""Bytes become records: pure, no clock, no socket."""
