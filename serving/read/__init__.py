"""From a query to an answer: read > assign > decide > log."""
