"""From the log to a release that serves."""
