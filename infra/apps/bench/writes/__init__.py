"""Benchmarks of the write path: a POST, what follows it by stage and component, the roll-up."""
