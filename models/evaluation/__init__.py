"""Evaluation of a release: metrics of held-out ranked lists, and the gate."""
