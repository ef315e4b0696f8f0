"""What a process holds and keeps current, in the background."""
