"""The log replayed in process: people and tables at any time, and what a decision showed then."""
