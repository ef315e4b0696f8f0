"""A snapshot: the whole state after folding `events` up to an offset of each partition. `manifest.json` is
the last of its objects to be written: without it there is no snapshot."""

from __future__ import annotations

from typing import Final

import msgspec
import pyarrow as pa

from schemas.alphabet import Millis
from schemas.state.fences import Fence
from schemas.version import OtherVersion

VERSION: Final = 1
"""Version of the form: the manifest and the files that it names."""
FOLDER: Final = "snapshots"
MANIFEST: Final = "manifest.json"
PAIRS: Final = pa.schema(
    [pa.field("key", pa.binary(), nullable=False), pa.field("value", pa.binary(), nullable=False)]
)
"""Columns of a partition's file: its string keys by their names in `schemas.keys.PLAIN`, ascending."""
OUTBOX: Final = pa.schema(
    [
        pa.field("id", pa.binary(), nullable=False),
        pa.field("person", pa.binary(), nullable=False),
        pa.field("value", pa.binary(), nullable=False),
    ]
)
"""Columns of a partition's outbox: the records emitted that their receivers had not folded, in order."""


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True):
    """`name` in the snapshot's folder."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of the code that made it, and of the records in it."""

    fold: int
    facts: int
    rows: int
    accounts: int
    tables: int


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition as of `offset`: it holds exactly the records before it."""

    offset: int
    newest: Millis
    """Highest record time of those records."""
    events: int
    """How many records, dead letters included."""
    dead_letters: int
    received: dict[str, str]
    """By source partition, the highest number received from its outbox, ``offset-n``."""
    tallies: dict[str, int] = {}
    """By reason, how many records were accepted and are not counted."""
    people: SnapshotFile
    outbox: SnapshotFile


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest."""

    version: int = VERSION
    id: str
    made_at: Millis
    base: str
    """Id of the snapshot from which the fold went on; "": it began with the log."""
    topic_id: str
    versions: Versions
    partitions: list[Partition]
    tables: SnapshotFile

    @property
    def offsets(self) -> list[int]:
        return [partition.offset for partition in self.partitions]

    @property
    def newest(self) -> Millis:
        return max((partition.newest for partition in self.partitions), default=0)

    @property
    def events(self) -> int:
        return sum(partition.events for partition in self.partitions)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def files(self) -> list[SnapshotFile]:
        files = [file for it in self.partitions for file in (it.people, it.outbox)]
        return [*files, self.tables]

    def fence(self, partition: int) -> Fence:
        """The fence that the fold would have stored at this offset."""
        held = self.partitions[partition]
        count, version = len(self.partitions), self.versions.fold
        return Fence(self.topic_id, count, held.offset, held.newest, version)


class _Versioned(msgspec.Struct):
    version: int


def decode(value: bytes) -> Snapshot:
    """Errors: `msgspec.MsgspecError`; `OtherVersion` for a form that this code does not read."""
    version = msgspec.json.decode(value, type=_Versioned).version
    if version != VERSION:
        raise OtherVersion(f"it has form {version}, this Freshet reads form {VERSION}")
    return msgspec.json.decode(value, type=Snapshot)


def encode(snapshot: Snapshot) -> bytes:
    return msgspec.json.format(msgspec.json.encode(snapshot), indent=1)
