"""The ground: every record that crosses a wire or a disk, every topic, every Redis key.

Imports nothing of ours. Each module holds one shape and the way to read and write it.
"""
