"""The lake as a log that is read back, and as tables of which a query selects a few rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.frames import spread
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
"""Steps that are decoded while the caller works on the step before."""


class RowsRead(NamedTuple):
    """Rows that a query selected. `groups`: row groups in the files opened; `read`: those of them decoded."""

    table: pa.Table
    groups: int
    read: int


class Lake:
    """A `LogReader` of what the lake holds. `keyspace`: of the keys that errors name.

    Errors of every method: `LakeError`.
    """

    def __init__(self, store: Store, keyspace: Keyspace = PLAIN) -> None:
        self.store, self._keyspace = store, keyspace

    @classmethod
    def of(cls, settings: Settings) -> Lake:
        """The lake of an installation."""
        return cls(open_store(settings), settings.keyspace)

    def manifest(self, topic: str, partition: int) -> Manifest:
        """The manifest of a partition; no object is read yet."""
        return Manifest(self.store, topic, partition, self._keyspace)

    def partitions(self, topic: str) -> list[int]:
        """The partitions of a topic that the lake holds something of, ascending."""
        found = {it.name.split("/")[2] for it in self.store.list(f"manifest/{topic}")}
        return sorted(int(name) for name in found if name.isdigit())

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset held, and the end offset; (0, 0) where the lake holds nothing."""
        chain = self.manifest(topic, partition).chain()
        return (chain[0].start, chain[-1].end) if chain else (0, 0)

    def last(self, topic: str, partition: int) -> ManifestEntry | None:
        """The chain's last entry; None where there is none."""
        manifest = self.manifest(topic, partition)
        chain = manifest.chain()
        return manifest.entry(chain[-1]) if chain else None

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        """As `LogReader.read`. Errors: also `OffTheLog`."""
        manifest = self.manifest(topic, partition)
        chain = _covering(manifest, start, end)
        for entry, rows, headers in _ahead(self._rows(manifest, chain, start, end)):
            for batch in _batches(partition, start, rows, headers, size):
                # bad frames lie there as they came
                yield spread(topic, batch)
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
                chain = _chain_without(manifest, span, start, end)
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
        """Rows of a person, of since <= record time < until (ms), or both, by partition, offset and index.

        `columns` () are all; a column `partition` comes before them. Files and row groups that cannot hold a
        wanted row are not read. Errors: KeyError for a topic that has no table.
        """
        table, wanted = BY_TOPIC[topic], RowFilter(person, since, until)
        names = list(columns) or table.schema.names
        tables, groups, read = [], 0, 0
        for partition in self.partitions(topic):
            manifest = self.manifest(topic, partition)
            for entry in manifest.entries(manifest.chain()):
                if not _may_hold(topic, partition, entry, wanted):
                    continue
                with self._open(entry) as source:
                    file = File(self.store, entry, source)
                    found, decoded = file.select(wanted, names)
                groups, read = groups + file.groups, read + decoded
                tables.append(_with_partition(found, partition))
        if not tables:
            empty = table.schema.remove_metadata().empty_table().select(names)
            tables = [_with_partition(empty, 0)]
        # chains are in order, and so are the rows within a file
        return RowsRead(pa.concat_tables(tables), groups, read)

    def person(self, person: str, topic: str = EVENTS.name, **options: Any) -> RowsRead:
        """All rows of one person, as `select`: it reads the row groups whose range holds the person."""
        return self.select(topic, person=person, **options)

    def _open(self, entry: ManifestEntry) -> pa.NativeFile:
        try:
            return self.store.open(entry.name)
        except FileNotFoundError:
            raise missing(entry) from None


def missing(entry: ManifestEntry) -> LakeTorn:
    """The error of an object that the manifest names and the lake lacks."""
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


def _chain_without(manifest: Manifest, span: Span, start: int, end: int) -> list[Span]:
    """The chain as it is now, where a compacted file has replaced `span`. Errors: `LakeTorn`, `OffTheLog`."""
    chain = _covering(manifest, start, end)
    current = next(it for it in chain if it.start <= start < it.end)
    if current == span:
        raise missing(manifest.entry(span))
    return chain


def _may_hold(topic: str, partition: int, entry: ManifestEntry, wanted: RowFilter) -> bool:
    if wanted.since is not None and entry.last_at < wanted.since:
        return False
    if wanted.until is not None and entry.first_at >= wanted.until:
        return False
    if wanted.person is None or topic != EVENTS.name:  # other topics are not keyed by person
        return True
    return partition_of(wanted.person.encode(), entry.partitions) == partition


def _with_partition(table: pa.Table, partition: int) -> pa.Table:
    return table.add_column(
        0, "partition", pa.array([partition] * len(table), pa.int32())
    ).replace_schema_metadata(None)


def _batches(partition: int, start: int, rows: Rows, headers: bool, size: int) -> Iterator[Batch]:
    total = len(rows.table)
    if not total:
        yield Batch(partition, start, rows.next, [], [], [])
        return
    for begin, stop in pairwise(_cuts(rows.table["offset"].to_numpy(), size)):
        table = rows.table.slice(begin, stop - begin)
        offsets, indexes = table["offset"].to_pylist(), table["index"].to_numpy()
        end = rows.next if stop == total else offsets[-1] + 1
        yield Batch(
            partition,
            start,
            end,
            offsets,
            table["timestamp"].cast(pa.int64()).to_pylist(),
            table["value"].to_pylist(),
            keys=table["key"].to_pylist(),
            headers=_headers(table) if headers else (),
            indexes=indexes.tolist() if indexes.any() else [],
        )
        start = end


def _cuts(offsets: NDArray[np.int64], size: int) -> list[int]:
    """Where batches of at most `size` rows begin, and the last one ends; a frame's rows stay together."""
    found = [0]
    while (end := found[-1] + size) < len(offsets):
        begin = int(np.searchsorted(offsets, offsets[end]))
        if begin <= found[-1]:  # the frame alone has more
            begin = int(np.searchsorted(offsets, offsets[end], "right"))
        found.append(begin)
    if found[-1] < len(offsets):
        found.append(len(offsets))
    return found


def _headers(table: pa.Table) -> Sequence[Headers]:
    """The headers of each row; empty where no row has any."""
    column = table["headers"]
    return EncodedHeaders(column, _unpacked) if column.null_count < len(column) else ()


def _unpacked(cell: pa.ListScalar) -> Headers:
    return tuple([(it["name"], it["value"]) for it in cell.as_py() or ()])


def _ahead(steps: Iterator[_T]) -> Iterator[_T]:
    """The same steps, decoded in a thread of their own."""
    with ThreadPoolExecutor(1, "lake") as pool:
        pending = [pool.submit(next, steps, None) for _ in range(_STEPS_AHEAD)]
        while (step := pending.pop(0).result()) is not None:
            pending.append(pool.submit(next, steps, None))
            yield step
