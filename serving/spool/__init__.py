"""Frames on disk, fsynced; it knows no Kafka."""
