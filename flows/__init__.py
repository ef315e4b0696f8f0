"""Dataflows: a flow is a file, or a folder of its name with `dataflow.py`."""
