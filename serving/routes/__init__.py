"""A file a resource: parse, call, answer."""
