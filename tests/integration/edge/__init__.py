"""What is written over HTTP."""
