"""The commands and metrics of operators."""
