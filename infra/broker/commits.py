"""Committed offsets of all groups: an append-only file of JSON lines, compacted on start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from infra.files import write_atomically

TopicPartition = tuple[str, int]
MAX_DEAD_LINES: Final = 100_000  # beyond four a live one: a running broker compacts then


class Commit(NamedTuple):
    """A committed offset: the next one to read."""

    offset: int
    leader_epoch: int
    metadata: str


class Commits:
    """The last commit of every group and partition. A commit is written before it is answered."""

    def __init__(self, path: Path, fsync: bool) -> None:
        """Errors: `OSError`."""
        self._path, self._fsync = path, fsync
        self._groups: dict[str, dict[TopicPartition, Commit]] = {}
        self._lines = self._read()
        self._compact()

    def of_group(self, group: str) -> dict[TopicPartition, Commit]:
        """Commits by (topic, partition); empty for a group without commits. Do not change it."""
        return self._groups.get(group, {})

    def groups(self) -> list[str]:
        """Groups that have commits."""
        return list(self._groups)

    def put(self, group: str, commits: dict[TopicPartition, Commit]) -> None:
        """Writes `commits`. Errors: `OSError`; none of them is committed then."""
        self._append([_line(group, key, commit) for key, commit in commits.items()])
        self._groups.setdefault(group, {}).update(commits)

    def delete(self, keys: Iterable[tuple[str, TopicPartition]]) -> None:
        """Deletes (group, (topic, partition)) commits. Errors: `OSError`."""
        existing = [(group, key) for group, key in keys if key in self.of_group(group)]
        self._append([_line(group, key, None) for group, key in existing])
        for group, key in existing:
            del self._groups[group][key]
            if not self._groups[group]:
                del self._groups[group]

    def delete_topic(self, topic: str) -> None:
        """Deletes every commit on `topic`: a new topic may get that name. Errors: `OSError`."""
        self.delete(
            [
                (group, key)
                for group in self._groups
                for key in self.of_group(group)
                if key[0] == topic
            ]
        )

    def close(self) -> None:
        """Flushes and closes. Errors: `OSError`."""
        try:
            os.fsync(self._fd)
        finally:
            os.close(self._fd)

    def _append(self, lines: list[bytes]) -> None:
        if not lines:
            return
        data, done = b"".join(lines), 0
        try:
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], self._end + done)
            if self._fsync:
                os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._end)
            raise
        self._end += len(data)
        self._lines += len(lines)
        if self._lines > 4 * sum(map(len, self._groups.values())) + MAX_DEAD_LINES:
            os.close(self._fd)
            self._compact()

    def _read(self) -> int:
        lines = 0
        if self._path.exists():
            with self._path.open("rb") as file:
                for line in file:
                    lines += 1
                    if not line.endswith(b"\n"):
                        break  # torn by a kill: the commit was never acknowledged
                    self._apply(json.loads(line))
        return lines

    def _apply(self, entry: list[int | str | None]) -> None:
        group, topic, partition, offset, leader_epoch, metadata = entry
        key = (str(topic), int(partition or 0))
        if offset is None:
            self._groups.get(str(group), {}).pop(key, None)
            return
        commit = Commit(int(offset), int(leader_epoch or 0), str(metadata))
        self._groups.setdefault(str(group), {})[key] = commit

    def _compact(self) -> None:
        """Rewrites the file where it has dead lines, and opens it for appending."""
        self._groups = {group: commits for group, commits in self._groups.items() if commits}
        live = sum(map(len, self._groups.values()))
        if self._lines != live:
            data = b"".join(
                _line(group, key, commit)
                for group, commits in self._groups.items()
                for key, commit in commits.items()
            )
            write_atomically(self._path, data)
            self._lines = live
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._end = os.fstat(self._fd).st_size


def _line(group: str, key: TopicPartition, commit: Commit | None) -> bytes:
    values = (None, None, None) if commit is None else commit
    return json.dumps([group, *key, *values]).encode() + b"\n"
