"""A rebuild from beginning to end: snapshot, fill, catch up, swap."""
