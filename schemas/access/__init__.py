"""Access: what a token may allow, and the records of who did what."""
