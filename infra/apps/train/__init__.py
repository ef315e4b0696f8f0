"""Training: from the log to a release that serves."""
