"""What the loop does on this machine, measured."""
