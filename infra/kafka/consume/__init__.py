"""Consuming in the caller's own thread: a fetch a leader, and no thread beside it while brokers answer."""
