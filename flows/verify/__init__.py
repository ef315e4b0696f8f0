"""Is what Redis holds what the log says? Compared field by field, while everything runs."""
