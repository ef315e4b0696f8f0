"""Committed offsets of all groups: an append-only file of JSON lines, compacted on start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from infra.files import write_atomically

Key = tuple[str, str, int]  # group, topic, partition
SLACK: Final = 100_000  # dead lines that a running broker lets grow before it compacts


class Commit(NamedTuple):
    """`offset` is the next one to read."""

    offset: int
    leader_epoch: int
    metadata: str


class Commits:
    """The last commit of every group and partition. A line is written before it counts."""

    def __init__(self, path: Path, fsync: bool) -> None:
        """Errors: `OSError`."""
        self._path, self._fsync = path, fsync
        self._groups: dict[str, dict[tuple[str, int], Commit]] = {}
        self._lines = self._read()
        self._compact()

    def of(self, group: str) -> dict[tuple[str, int], Commit]:
        """By (topic, partition); empty for a group that never committed. Not to be changed."""
        return self._groups.get(group, {})

    def groups(self) -> list[str]:
        """Groups that have commits."""
        return list(self._groups)

    def put(self, group: str, commits: dict[tuple[str, int], Commit]) -> None:
        """Commits all of them. Errors: `OSError`; none of them counts then."""
        self._append([_line(group, place, commit) for place, commit in commits.items()])
        self._groups.setdefault(group, {}).update(commits)

    def forget(self, places: Iterable[tuple[str, tuple[str, int]]]) -> None:
        """Drops (group, (topic, partition)) commits. Errors: `OSError`."""
        gone = [(group, place) for group, place in places if place in self.of(group)]
        self._append([_line(group, place, None) for group, place in gone])
        for group, place in gone:
            del self._groups[group][place]
            if not self._groups[group]:
                del self._groups[group]

    def forget_topic(self, topic: str) -> None:
        """Drops every commit on `topic`: a new topic of that name begins anew."""
        self.forget(
            [
                (group, place)
                for group in self._groups
                for place in self.of(group)
                if place[0] == topic
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
        if self._lines > 4 * sum(map(len, self._groups.values())) + SLACK:
            os.close(self._fd)
            self._compact()

    def _read(self) -> int:
        lines = 0
        if self._path.exists():
            with self._path.open("rb") as file:
                for line in file:
                    lines += 1
                    if not line.endswith(b"\n"):
                        break  # torn by a kill: it was never acknowledged
                    self._apply(json.loads(line))
        return lines

    def _apply(self, entry: list[int | str | None]) -> None:
        group, topic, partition, offset, leader_epoch, metadata = entry
        place = (str(topic), int(partition or 0))
        if offset is None:
            self._groups.get(str(group), {}).pop(place, None)
            return
        commit = Commit(int(offset), int(leader_epoch or 0), str(metadata))
        self._groups.setdefault(str(group), {})[place] = commit

    def _compact(self) -> None:
        """Rewrites the file where it has dead lines, and opens it for appending."""
        self._groups = {group: places for group, places in self._groups.items() if places}
        live = sum(map(len, self._groups.values()))
        if self._lines != live:
            data = b"".join(
                _line(group, place, commit)
                for group, places in self._groups.items()
                for place, commit in places.items()
            )
            write_atomically(self._path, data)
            self._lines = live
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._end = os.fstat(self._fd).st_size


def _line(group: str, place: tuple[str, int], commit: Commit | None) -> bytes:
    rest = (None, None, None) if commit is None else commit
    return json.dumps([group, *place, *rest]).encode() + b"\n"
