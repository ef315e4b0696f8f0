"""The chaos suite's own accounts, proxies and schedule."""
