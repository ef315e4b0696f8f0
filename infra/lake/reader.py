"""The lake as a log that is read back, and as tables of which a few rows are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

import pyarrow as pa

from infra.lake.errors import LakeTorn
from infra.lake.file import RECORD_COLUMNS, File, RowFilter, Rows
from infra.lake.manifest import Manifest, Span
from infra.lake.store import Store, open_store
from infra.log_reader import Batch, EncodedHeaders, Headers, OffTheLog
from infra.settings import Settings
from schemas.identity import partition_of
from schemas.keys import PLAIN, Keyspace
from schemas.lake import BY_TOPIC, ManifestEntry
from schemas.topics import EVENTS

_T = TypeVar("_T")
_STEPS_AHEAD: Final = 2
"""Steps that are decoded while the one before is worked on."""


class RowsRead(NamedTuple):
    """Rows, and of how many row groups in the files looked at they were read."""

    table: pa.Table
    groups: int
    read: int


class Lake:
    """A `LogReader` of what the lake holds. `keyspace`: of keys that errors name.

    Errors of every method: `LakeError`.
    """

    def __init__(self, store: Store, keyspace: Keyspace = PLAIN) -> None:
        self.store, self._keyspace = store, keyspace

    @classmethod
    def of(cls, settings: Settings) -> Lake:
        return cls(open_store(settings), settings.keyspace)

    def manifest(self, topic: str, partition: int) -> Manifest:
        return Manifest(self.store, topic, partition, self._keyspace)

    def partitions(self, topic: str) -> list[int]:
        """Those of which something is in the lake."""
        found = {it.name.split("/")[2] for it in self.store.list(f"manifest/{topic}")}
        return sorted(int(name) for name in found if name.isdigit())

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """(0, 0) where there is nothing."""
        chain = self.manifest(topic, partition).chain()
        return (chain[0].start, chain[-1].end) if chain else (0, 0)

    def last(self, topic: str, partition: int) -> ManifestEntry | None:
        """The entry that the chain ends with."""
        manifest = self.manifest(topic, partition)
        chain = manifest.chain()
        return manifest.entry(chain[-1]) if chain else None

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        manifest = self.manifest(topic, partition)
        chain = _covering(manifest, start, end)
        for entry, rows, headers in _ahead(self._rows(manifest, chain, start, end)):
            for batch in _batches(partition, start, rows, headers, size):
                yield batch
                start = batch.next
            assert start == rows.next, entry.name

    def _rows(
        self, manifest: Manifest, chain: list[Span], start: int, end: int
    ) -> Iterator[tuple[ManifestEntry, Rows, bool]]:
        while start < end:
            span = next(it for it in chain if it.start <= start < it.end)
            try:
                entry = manifest.entry(span)
                source = self.store.open(entry.name)
            except FileNotFoundError:
                chain = _again(manifest, span, start, end)
                continue
            with source:
                file = File(self.store, entry, source)
                columns = [*RECORD_COLUMNS, *(["headers"] if file.headers else [])]
                for rows in file.ordered(start, min(end, entry.end), columns):
                    yield entry, rows, file.headers
                    start = rows.next

    def select(
        self,
        topic: str,
        *,
        person: str | None = None,
        since: int | None = None,
        until: int | None = None,
        columns: Sequence[str] = (),
    ) -> RowsRead:
        """Rows of a person, of since <= record time < until (ms), or both, by partition and offset, with
        a column `partition`. Files and row groups that cannot hold any are not read.

        `columns` () are all. Errors: KeyError for a topic that has no table.
        """
        table, wanted = BY_TOPIC[topic], RowFilter(person, since, until)
        names = list(columns) or table.schema.names
        parts, groups, read = [], 0, 0
        for partition in self.partitions(topic):
            manifest = self.manifest(topic, partition)
            for entry in manifest.entries(manifest.chain()):
                if not _may_hold(topic, partition, entry, wanted):
                    continue
                with self._open(entry) as source:
                    file = File(self.store, entry, source)
                    found, taken = file.select(wanted, names)
                groups, read = groups + file.groups, read + taken
                parts.append(_with_partition(found, partition))
        if not parts:
            empty = table.schema.remove_metadata().empty_table().select(names)
            parts = [_with_partition(empty, 0)]
        return RowsRead(_ordered(parts), groups, read)

    def person(self, person: str, topic: str = EVENTS.name, **options: Any) -> RowsRead:
        """Everything of one person: `select` of one partition's row groups that their name falls in."""
        return self.select(topic, person=person, **options)

    def _open(self, entry: ManifestEntry) -> pa.NativeFile:
        try:
            return self.store.open(entry.name)
        except FileNotFoundError:
            raise missing(entry) from None


def missing(entry: ManifestEntry) -> LakeTorn:
    return LakeTorn(f"{entry.name} is in the manifest and not in the lake: restore it")


def _covering(manifest: Manifest, start: int, end: int) -> list[Span]:
    chain = manifest.chain()
    if start < end and not (chain and chain[0].start <= start and end <= chain[-1].end):
        held = f"offsets {chain[0].start} to {chain[-1].end}" if chain else "nothing"
        raise OffTheLog(
            f"the lake holds {held} of {manifest.topic} partition {manifest.partition}: asked for"
            f" {start} to {end}"
        )
    return chain


def _again(manifest: Manifest, span: Span, start: int, end: int) -> list[Span]:
    """The chain, where a compacted file took the place of `span`. Errors: `LakeTorn`."""
    chain = _covering(manifest, start, end)
    now = next(it for it in chain if it.start <= start < it.end)
    if now == span:
        raise missing(manifest.entry(span))
    return chain


def _may_hold(topic: str, partition: int, entry: ManifestEntry, wanted: RowFilter) -> bool:
    if wanted.since is not None and entry.last_at < wanted.since:
        return False
    if wanted.until is not None and entry.first_at >= wanted.until:
        return False
    if wanted.person is None or topic != EVENTS.name:  # the others are not keyed by person
        return True
    return partition_of(wanted.person.encode(), entry.partitions) == partition


def _with_partition(table: pa.Table, partition: int) -> pa.Table:
    return table.add_column(
        0, "partition", pa.array([partition] * len(table), pa.int32())
    ).replace_schema_metadata(None)


def _ordered(parts: list[pa.Table]) -> pa.Table:
    # chains are in order, and rows within a file
    return pa.concat_tables(parts)


def _batches(partition: int, start: int, rows: Rows, headers: bool, size: int) -> Iterator[Batch]:
    total = len(rows.table)
    for at in range(0, max(total, 1), size):
        part = rows.table.slice(at, size)
        if not len(part):
            yield Batch(partition, start, rows.next, [], [], [])
            return
        offsets = part["offset"].to_pylist()
        end = rows.next if at + size >= total else offsets[-1] + 1
        yield Batch(
            partition,
            start,
            end,
            offsets,
            part["timestamp"].cast(pa.int64()).to_pylist(),
            part["value"].to_pylist(),
            keys=part["key"].to_pylist(),
            headers=_headers(part) if headers else (),
        )
        start = end


def _headers(part: pa.Table) -> Sequence[Headers]:
    """Empty where none has any."""
    column = part["headers"]
    return EncodedHeaders(column, _unpacked) if column.null_count < len(column) else ()


def _unpacked(cell: pa.ListScalar) -> Headers:
    return tuple([(it["name"], it["value"]) for it in cell.as_py() or ()])


def _ahead(steps: Iterator[_T]) -> Iterator[_T]:
    """The same, decoded in a thread of its own."""
    with ThreadPoolExecutor(1, "lake") as pool:
        coming = [pool.submit(next, steps, None) for _ in range(_STEPS_AHEAD)]
        while (step := coming.pop(0).result()) is not None:
            coming.append(pool.submit(next, steps, None))
            yield step
