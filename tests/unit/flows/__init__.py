"""Flows, without a broker."""
