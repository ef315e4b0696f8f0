"""The manifest of a partition: entries that chain, each entry's start the end of the one before.

An entry is an object of its own whose name has its start and its end. So a writer adds an entry and changes
none, and a list of the names gives the chain. Several entries may start at one offset (a writer that stalled,
a compacted file beside those it was made of). The chain is the path that reaches furthest, and among such
paths the one of fewest entries. Paths differ in their cuts alone: an entry is written after the fence, so
each holds exactly the log's records from its start to its end.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import msgspec

from infra.lake.errors import LakeHole, LakeTorn, LakeVersion
from infra.lake.store import Store
from schemas import lake
from schemas.keys import Keyspace
from schemas.lake import ManifestEntry

_NAME: Final = re.compile(r"manifest/[a-z-]+/\d+/(\d{20})-(\d{20})\.json")
_READERS: Final = 16
_TRIES: Final = 3
"""Listings: one that is made while entries are added may show a later entry and not the one before it."""


class Span(NamedTuple):
    """Offsets start <= offset < end; `at`: when its entry was written, Unix time in s."""

    start: int
    end: int
    at: float = 0.0


def chain(spans: Iterable[Span]) -> list[Span]:
    """The path from the least start that reaches furthest, of fewest entries.

    >>> [s[:2] for s in chain([Span(0, 5), Span(5, 9), Span(0, 9), Span(5, 7), Span(9, 12)])]
    [(0, 9), (9, 12)]
    """
    starting: dict[int, list[Span]] = defaultdict(list)
    for span in spans:
        starting[span.start].append(span)
    if not starting:
        return []
    hops = {min(starting): 0}
    back: dict[int, Span] = {}
    for start in sorted(starting):  # spans ascend, so every path to `start` is known here
        for span in starting[start] if start in hops else ():
            if hops[start] + 1 < hops.get(span.end, 1 << 62):
                hops[span.end], back[span.end] = hops[start] + 1, span
    path: list[Span] = []
    at = max(hops)
    while at in back:
        path.append(back[at])
        at = back[at].start
    return path[::-1]


class Manifest:
    """The manifest of one partition of a topic. Errors of every method: `LakeError`."""

    def __init__(self, store: Store, topic: str, partition: int, keyspace: Keyspace) -> None:
        self._store, self.topic, self.partition = store, topic, partition
        self._fence = keyspace.fence(f"lake-{topic}", partition).decode()
        """The key of its writer's fence, for remedies."""
        self.folder = f"manifest/{topic}/{partition:02}"

    def spans(self) -> list[Span]:
        """The spans of all entries, on the chain or off it."""
        found = ((_NAME.fullmatch(it.name), it.at) for it in self._store.list(self.folder))
        return [Span(int(name[1]), int(name[2]), at) for name, at in found if name]

    def chain(self) -> list[Span]:
        """The chain of entries, oldest first; [] where there are none. Errors: `LakeHole`."""
        for attempt in range(_TRIES):
            spans = self.spans()
            path = chain(spans)
            beyond = [span for span in spans if path and span.end > path[-1].end]
            if not beyond:
                break
            if attempt == _TRIES - 1:
                raise LakeHole(
                    f"{self.folder} has a hole: no entry leads from {path[-1].end} on, and there are"
                    f" some from {min(it.start for it in beyond)} on; restore what is missing, or move"
                    f" those away and delete the key {self._fence}: the flow"
                    " lake then writes them again, as far as the log holds them"
                )
        return path

    def name(self, start: int, end: int) -> str:
        return f"{self.folder}/{start:020}-{end:020}.json"

    def entry(self, span: Span) -> ManifestEntry:
        """The entry of a span. Errors: FileNotFoundError where it was replaced and swept meanwhile."""
        name = self.name(span.start, span.end)
        return read(name, self._store.get(name))

    def entries(self, spans: Sequence[Span]) -> list[ManifestEntry]:
        """The entries of spans, in their order; from a bucket in parallel."""
        if len(spans) < _READERS or self._store.local:
            return [self.entry(span) for span in spans]
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self.entry, spans))

    def write(self, entry: ManifestEntry) -> None:
        """Adds an entry; adding it again changes nothing."""
        self._store.put(self.name(entry.start, entry.end), lake.encode_entry(entry))

    def delete(self, span: Span) -> None:
        self._store.delete(self.name(span.start, span.end))

    def repair(self, entry: ManifestEntry) -> bool:
        """Adds the entry that a fence was committed with, if its writer could not; answers whether it did.

        Errors: `LakeTorn` where the entry's file is missing or cut.
        """
        if any(span.end >= entry.end for span in self.chain()[-1:]):
            return False
        size = self._store.size(entry.name)
        if size != entry.bytes:
            raise LakeTorn(
                f"{entry.name} was written and is {'not there' if size is None else 'cut'}: restore it,"
                f" or delete the key {self._fence}: the flow lake then writes"
                " it again, as far as the log holds it"
            )
        self.write(entry)
        return True


def read(name: str, data: bytes) -> ManifestEntry:
    """The entry in the object `name`. Errors: `LakeTorn`, `LakeVersion`, naming the object."""
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != lake.VERSION:
            raise LakeVersion(
                f"{name} has version {version}, this Freshet reads version {lake.VERSION}"
            )
        return lake.decode_entry(data)
    except msgspec.MsgspecError:
        raise LakeTorn(f"{name} is not an entry of a manifest: restore it") from None


class _Versioned(msgspec.Struct):
    version: int
