"""`rollup`: adds up the facts of all partitions and publishes versioned tables."""
