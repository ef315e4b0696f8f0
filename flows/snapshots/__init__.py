"""Snapshots: all that folding `events` up to an offset of each partition leaves, in the lake.

Snapshot n + 1 = fold(snapshot n, log up to offsets o). It is made off line: nothing of it touches the
running flows. The tables stand at the same offsets as the people, so both can go on from there. Objects
lie under snapshots/<id>/ of the lake (`schemas.snapshots`).
"""
