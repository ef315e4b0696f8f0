"""`people`: everything kept of a person, with their vector and their outbox, in one fold."""
