"""`relay`: sends once what a fold emits for other partitions."""
