"""A click on real data changes the next recommendation, shown and measured."""
