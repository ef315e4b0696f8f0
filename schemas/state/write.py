"""The write of a flow, as data. `flows.kit.commit` performs it, all or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from schemas.keys import Keyspace
from schemas.state.fences import Fence


class StreamEntry(NamedTuple):
    """An entry of a Redis stream; `keep`: about how many entries the stream keeps, None: all."""

    key: bytes
    id: bytes
    fields: dict[bytes, bytes]
    keep: int | None = None


MAX_WHOLE_BYTES: Final = 1024
"""A string that is known and no longer is set whole: Redis takes it sooner than an append, and allocates no
more than it needs."""


@dataclass
class Write:
    """One batch of one partition: applied only where the stored fence's offset is still `first`."""

    flow: str
    partition: int
    first: int
    fence: Fence
    keyspace: Keyspace
    """The keyspace of all keys in the write, the fence's included."""
    values: dict[bytes, bytes] = field(default_factory=dict)
    appends: dict[bytes, bytes] = field(default_factory=dict)
    fields: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    removed: dict[bytes, list[bytes]] = field(default_factory=dict)
    entries: list[StreamEntry] = field(default_factory=list)
    deleted: list[bytes] = field(default_factory=list)
    after: Fence | None = None
    """The stored fence that the writer's caches follow, None: any. Another one at offset `first` says that
    someone else moved people or repaired the partition."""
    counts: dict[str, int] = field(default_factory=dict)
    """Counts of the batch by name: for metrics, never stored."""

    def append(self, key: bytes, data: bytes) -> None:
        self.appends[key] = self.appends.get(key, b"") + data

    def set_whole(self, key: bytes, whole: bytes) -> None:
        """Sets what the batch may have appended to."""
        self.appends.pop(key, None)
        self.values[key] = whole

    def append_to(self, key: bytes, whole: bytes, data: bytes) -> None:
        """Appends `data`, the end of what the string is then: `whole`."""
        if len(whole) <= MAX_WHOLE_BYTES:
            self.values[key] = whole
        else:
            self.append(key, data)
