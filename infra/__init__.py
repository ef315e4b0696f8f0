"""Plumbing: brokers, stores, processes and settings. Imports schemas only (but `infra.cli`)."""
