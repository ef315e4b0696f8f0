"""Producing on the event loop: idempotent, acknowledged by all replicas, each record sent once."""
