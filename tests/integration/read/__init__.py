"""What is read over HTTP, and what stands behind it."""
