"""What is held of a person, an item, a slate, and how the system does."""
