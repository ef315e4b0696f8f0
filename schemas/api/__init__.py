"""What the description of the API says of texts, as JSON Schema."""
