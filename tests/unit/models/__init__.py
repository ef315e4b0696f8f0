"""Models: mathematics without a service."""
