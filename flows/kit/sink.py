"""The last step of every flow: performs the writes, so that their partitions may continue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bytewax.outputs import DynamicSink, StatelessSinkPartition

Commit = Callable[[list[Any]], None]
"""Takes what the step before made of one read: of several partitions, one of each at most."""


class _Committer(StatelessSinkPartition[Any]):
    def __init__(self, commit: Commit) -> None:
        self._commit = commit

    def write_batch(self, items: list[Any]) -> None:
        self._commit(items)


class Committed(DynamicSink[Any]):
    def __init__(self, commit: Commit) -> None:
        self._commit = commit

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Committer:
        return _Committer(self._commit)
