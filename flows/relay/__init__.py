"""`relay`: what a fold emits for other partitions, sent once."""
