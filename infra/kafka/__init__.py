"""Kafka as Freshet uses it: clients, columnar fetches, offsets, topic watches, dead letters."""
