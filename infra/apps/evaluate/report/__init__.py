"""The report of an evaluation: one file of HTML, which needs no network, for a desk and for a phone."""
