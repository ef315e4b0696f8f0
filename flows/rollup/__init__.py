"""`rollup`: sums over people, added up over partitions and published as versioned tables."""
