"""A command parses, calls, prints; a file a command; imported by nothing."""
