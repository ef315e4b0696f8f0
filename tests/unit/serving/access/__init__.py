"""Access tokens, without a server."""
