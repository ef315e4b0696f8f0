"""Snapshots in the lake: the state after folding `events` up to an offset of each partition.

Snapshot n + 1 = fold(snapshot n, log up to offsets o). A snapshot is made offline and does not affect the
running flows. Its tables and its people are at the same offsets, so both can continue from there. Objects
lie under snapshots/<id>/ of the lake (`schemas.snapshots`).
"""
