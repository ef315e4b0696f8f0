"""Layouts of data sets, one a file: each reads its lines into columns."""
