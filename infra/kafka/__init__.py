"""Kafka as we use it: clients, fetches by columns, offsets, topics watched, dead letters."""
