"""Towards Kafka, and what waits while it is away."""
