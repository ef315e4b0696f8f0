"""The features of a person: a file each, with its update, its value and its slow definition."""
