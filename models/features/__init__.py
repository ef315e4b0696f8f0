"""What is kept of a person: a feature is a file, with its update, its value and its slow definition."""
