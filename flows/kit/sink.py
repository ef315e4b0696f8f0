"""The last step of every flow: performs the write, so that its partition may continue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bytewax.outputs import DynamicSink, StatelessSinkPartition

Commit = Callable[[Any], None]


class _Committer(StatelessSinkPartition[Any]):
    def __init__(self, commit: Commit) -> None:
        self._commit = commit

    def write_batch(self, items: list[Any]) -> None:
        for write in items:
            self._commit(write)


class Committed(DynamicSink[Any]):
    def __init__(self, commit: Commit) -> None:
        self._commit = commit

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Committer:
        return _Committer(self._commit)
