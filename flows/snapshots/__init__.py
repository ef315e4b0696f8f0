"""Snapshots: all that folding `events` up to an offset of each partition leaves, in the lake.

Snapshot n + 1 = fold(snapshot n, log up to offsets o). It is made off line: nothing of it touches the
running flows. The tables stand at the same offsets as the people, so both can go on from there. Objects
lie under snapshots/<id>/ of the lake (`schemas.snapshot`).
"""

from __future__ import annotations

from flows.snapshots.files import BadSnapshot, ForeignSnapshot, NoSnapshot, SnapshotError
from flows.snapshots.make import make
from flows.snapshots.read import (
    Listed,
    check,
    find,
    latest,
    listed,
    load,
    outbox,
    remove,
    tables,
    verify,
)
from schemas.snapshot import Snapshot

__all__ = [
    "BadSnapshot",
    "ForeignSnapshot",
    "Listed",
    "NoSnapshot",
    "Snapshot",
    "SnapshotError",
    "check",
    "find",
    "latest",
    "listed",
    "load",
    "make",
    "outbox",
    "remove",
    "tables",
    "verify",
]
