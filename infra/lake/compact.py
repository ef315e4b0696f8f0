"""Compaction: a day of a partition that is over becomes one file, in which a person and an hour lie together.

Until the day is over, each of its hours that is over becomes one file. So the files of a chain stay few, and
each record is written once more.

Rows lie by (hour, cluster column, offset). A row group ends with the hour where that leaves it large enough.
An hour of more than `MAX_SORTED_ROWS` rows is several such runs, cut in the order of the log: no more rows
are in memory at once, here or where the file is read back. The merged range's entry replaces the entries
within it: the chain is the path of fewest entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import chain, groupby
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.lake.file import File, torn
from infra.lake.reader import Lake, missing
from infra.lake.store import Store
from infra.lake.write import GROUP_ROWS, data_name, day_of, writer
from schemas.lake import BY_TOPIC, ManifestEntry, Table
from schemas.times import DAY_MS, HOUR_MS

EPOCH: Final = date(1970, 1, 1)
MIN_GROUP_ROWS: Final = GROUP_ROWS // 4
"""Rows below which an hour shares its row group with the next one."""
MAX_SORTED_ROWS: Final = 16 * GROUP_ROWS
"""Rows that are sorted at once: whole row groups, so that runs that are merged again stay as they are."""
_READ_BYTES: Final = 4 << 20


class Compacted(NamedTuple):
    """`replaced`: files whose rows are in `entry`'s now."""

    entry: ManifestEntry
    replaced: int


class Period(NamedTuple):
    """What one file is made of: an hour, or (None) a whole day; both count from 1970, UTC."""

    day: int
    hour: int | None


def compact(
    lake: Lake, topic: str, partition: int, now: int, *, all_: bool = False
) -> list[Compacted]:
    """Merges each day of the partition that was over at `now` (ms), and of today each hour that was; with
    `all_` today as a whole.

    The chain's last entry stays as it is: a writer that comes back may go on from within it.
    Errors: `LakeError`.
    """
    manifest = lake.manifest(topic, partition)
    entries = manifest.entries(manifest.chain())
    hours, this = list(_hours_of(entries, now)), now // HOUR_MS

    def period(hour: int) -> Period | None:
        """None while it is not over."""
        if all_ or hour // 24 < this // 24:
            return Period(hour // 24, None)
        # when the chain has gone on to the next one: so once
        return Period(hour // 24, hour) if hour < min(this, hours[-1]) else None

    done = []
    for over, run in groupby(zip(map(period, hours[:-1]), entries, strict=False), itemgetter(0)):
        files = [entry for _, entry in run]
        if over and (len(files) > 1 or (over.hour is None and not files[0].clustered)):
            day = day_of(over.day * DAY_MS)
            merged = _merge(lake.store, BY_TOPIC[topic], partition, day, files)
            manifest.write(merged)
            done.append(Compacted(merged, len(files)))
    return done


def _hours_of(entries: Sequence[ManifestEntry], now: int) -> Iterator[int]:
    """The hour of each entry, which never falls along the chain: the clocks of two producers may differ.
    One that has not come yet is nobody's; nor does a stamp from before a file's day count."""
    newest, this = -1, now // HOUR_MS
    for entry in entries:
        day = date.fromisoformat(entry.name.split("/")[2].removeprefix("day=")) - EPOCH
        hour = max(day.days * 24, entry.first_at // HOUR_MS)
        if hour <= this:
            newest = max(newest, hour)
        yield hour if newest < 0 else newest


def _merge(
    store: Store, table: Table, partition: int, day: str, entries: Sequence[ManifestEntry]
) -> ManifestEntry:
    first, last = entries[0], entries[-1]
    name = data_name(table, partition, first.start, last.end, day)
    files = [_Source(store, table, entry) for entry in entries]
    rows = 0
    headers = any(file.headers for file in files)
    with store.create(name) as sink, writer(sink, table, headers=headers) as out:
        for part in _shared(_by_hour(files, table.cluster)):
            out.write_table(part, row_group_size=GROUP_ROWS)
            rows += len(part)
    assert rows == sum(entry.rows for entry in entries), name
    return ManifestEntry(
        name=name,
        start=first.start,
        end=last.end,
        rows=rows,
        bytes=sink.bytes,
        sha256=sink.sha256,
        first_at=min(entry.first_at for entry in entries),
        last_at=max(entry.last_at for entry in entries),
        topic_id=last.topic_id,
        partitions=last.partitions,
        clustered=True,
    )


class _Source:
    """One of the files that are merged: its hash is right, its hours are known."""

    def __init__(self, store: Store, table: Table, entry: ManifestEntry) -> None:
        self._store, self._table, self.entry = store, table, entry
        check(store, entry)
        with self._open() as file:
            self.headers = file.headers
            stamps = [file.read([group], ["timestamp"]) for group in range(file.groups)]
        self._hours: list[set[int]] = [set(np.unique(_hours(it)).tolist()) for it in stamps]
        self.hours: set[int] = set().union(*self._hours)

    def of_hour(self, hour: int) -> Iterator[pa.Table]:
        """By row group."""
        with self._open() as file:
            for group, hours in enumerate(self._hours):
                if hour in hours:
                    rows = file.read([group], self._table.schema.names).cast(self._table.schema)
                    mine = None if hours == {hour} else pa.array(_hours(rows) == hour)
                    yield rows if mine is None else rows.filter(mine)

    @contextmanager
    def _open(self) -> Iterator[File]:
        try:
            source = self._store.open(self.entry.name)
        except FileNotFoundError:
            raise missing(self.entry) from None
        with source:
            yield File(self._store, self.entry, source)


def check(store: Store, entry: ManifestEntry) -> None:
    """Errors: `LakeTorn` where an object's bytes are not those that were written."""
    digest = hashlib.sha256()
    try:
        with store.open(entry.name) as source:
            while piece := source.read(_READ_BYTES):
                digest.update(piece)
    except FileNotFoundError:
        raise missing(entry) from None
    if digest.hexdigest() != entry.sha256:
        raise torn(entry, "its hash is another than its entry's")


def _hours(rows: pa.Table) -> NDArray[np.int64]:
    at: NDArray[np.int64] = rows["timestamp"].cast(pa.int64()).to_numpy()
    return at // HOUR_MS


def _by_hour(files: Sequence[_Source], cluster: str) -> Iterator[pa.Table]:
    """The rows of an hour each, or of a part of it, hours ascending."""
    order = [(cluster, "ascending"), ("offset", "ascending")]
    for hour in sorted(set().union(*(file.hours for file in files))):
        parts = chain.from_iterable(file.of_hour(hour) for file in files if hour in file.hours)
        for run in _runs(parts):
            yield run.sort_by(order)


def _runs(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, `MAX_SORTED_ROWS` in each but the last."""
    held, count = [], 0
    for rows in parts:
        held.append(rows)
        count += len(rows)
        while count > MAX_SORTED_ROWS:
            whole = pa.concat_tables(held)
            yield whole.slice(0, MAX_SORTED_ROWS)
            held, count = [whole.slice(MAX_SORTED_ROWS)], count - MAX_SORTED_ROWS
    yield pa.concat_tables(held)


def _shared(hours: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Small ones together with those that follow."""
    held: list[pa.Table] = []
    for rows in hours:
        held.append(rows)
        if sum(map(len, held)) >= MIN_GROUP_ROWS:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
