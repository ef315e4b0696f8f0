"""Compaction: a day of a partition that is over becomes one file, in which a person and an hour lie together.

Until the day is over, each of its hours that is over becomes one file. So the files of a chain stay few, and
each record is written once more.

Rows lie by (hour, cluster column, offset, index). A row group ends with the hour where that leaves it large
enough. An hour of more than `MAX_SORTED_ROWS` rows is several such runs, cut in the order of the log: no more
rows are in memory at once, here or where the file is read back. The merged range's entry replaces the entries
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

from infra.lake.file import LOG_ORDER, File, torn
from infra.lake.reader import Lake, missing
from infra.lake.store import Store
from infra.lake.write import GROUP_ROWS, data_name, day_of, writer
from schemas.lake import BY_TOPIC, ManifestEntry, Table
from schemas.times import DAY_MS, HOUR_MS

EPOCH: Final = date(1970, 1, 1)
MIN_GROUP_ROWS: Final = GROUP_ROWS // 4
"""Below so many rows an hour shares its row group with the next one."""
MAX_SORTED_ROWS: Final = 16 * GROUP_ROWS
"""Rows that are sorted at once: whole row groups, so that a later merge keeps the runs as they are."""
_READ_BYTES: Final = 4 << 20


class Compacted(NamedTuple):
    """A merge. `replaced`: how many files have their rows in `entry`'s file now."""

    entry: ManifestEntry
    replaced: int


class Period(NamedTuple):
    """The time that one merged file spans: an hour, or (None) a whole day; both count from 1970, UTC."""

    day: int
    hour: int | None


def compact(
    lake: Lake, topic: str, partition: int, now: int, *, all_: bool = False
) -> list[Compacted]:
    """Merges each day of the partition that was over at `now` (ms), and each hour of today that was over.

    With `all_` today is merged as a whole. The chain's last entry stays as it is: a writer that resumes may
    go on from within it. Errors: `LakeError`.
    """
    manifest = lake.manifest(topic, partition)
    entries = manifest.entries(manifest.chain())
    hours, current = list(_hours_of(entries, now)), now // HOUR_MS

    def period(hour: int) -> Period | None:
        """The period of an hour; None while the period is not over."""
        if all_ or hour // 24 < current // 24:
            return Period(hour // 24, None)
        # an hour is merged when the chain has reached the next one: so it is merged once
        return Period(hour // 24, hour) if hour < min(current, hours[-1]) else None

    merges = []
    for over, run in groupby(zip(map(period, hours[:-1]), entries, strict=False), itemgetter(0)):
        files = [entry for _, entry in run]
        if over and (len(files) > 1 or (over.hour is None and not files[0].clustered)):
            day = day_of(over.day * DAY_MS)
            merged = _merge(lake.store, BY_TOPIC[topic], partition, day, files)
            manifest.write(merged)
            merges.append(Compacted(merged, len(files)))
    return merges


def _hours_of(entries: Sequence[ManifestEntry], now: int) -> Iterator[int]:
    """The hour of each entry, made ascending along the chain: the clocks of two producers may differ.

    An hour in the future does not count, nor does a timestamp before the file's day.
    """
    newest, current = -1, now // HOUR_MS
    for entry in entries:
        day = date.fromisoformat(entry.name.split("/")[2].removeprefix("day=")) - EPOCH
        hour = max(day.days * 24, entry.first_at // HOUR_MS)
        if hour <= current:
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
        for group in _shared(_by_hour(files, table.cluster)):
            out.write_table(group, row_group_size=GROUP_ROWS)
            rows += len(group)
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
    """A file that is merged: its hash is checked, and the hours of its row groups are read."""

    def __init__(self, store: Store, table: Table, entry: ManifestEntry) -> None:
        self._store, self._table, self.entry = store, table, entry
        check(store, entry)
        with self._open() as file:
            self.headers = file.headers
            times = [file.read([group], ["timestamp"]) for group in range(file.groups)]
        self._hours: list[set[int]] = [set(np.unique(_hours(it)).tolist()) for it in times]
        self.hours: set[int] = set().union(*self._hours)

    def of_hour(self, hour: int) -> Iterator[pa.Table]:
        """The rows of an hour, row group by row group."""
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
    """Checks an object's hash. Errors: `LakeTorn` where its bytes are not those that were written."""
    digest = hashlib.sha256()
    try:
        with store.open(entry.name) as source:
            while chunk := source.read(_READ_BYTES):
                digest.update(chunk)
    except FileNotFoundError:
        raise missing(entry) from None
    if digest.hexdigest() != entry.sha256:
        raise torn(entry, "its hash is not the one in its entry")


def _hours(rows: pa.Table) -> NDArray[np.int64]:
    at: NDArray[np.int64] = rows["timestamp"].cast(pa.int64()).to_numpy()
    return at // HOUR_MS


def _by_hour(files: Sequence[_Source], cluster: str) -> Iterator[pa.Table]:
    """Sorted runs of rows, hours ascending: an hour is one run or several."""
    order = [(cluster, "ascending"), *LOG_ORDER]
    for hour in sorted(set().union(*(file.hours for file in files))):
        tables = chain.from_iterable(file.of_hour(hour) for file in files if hour in file.hours)
        for run in _runs(tables):
            yield run.sort_by(order)


def _runs(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, `MAX_SORTED_ROWS` in each table but the last."""
    held, count = [], 0
    for rows in tables:
        held.append(rows)
        count += len(rows)
        while count > MAX_SORTED_ROWS:
            whole = pa.concat_tables(held)
            yield whole.slice(0, MAX_SORTED_ROWS)
            held, count = [whole.slice(MAX_SORTED_ROWS)], count - MAX_SORTED_ROWS
    yield pa.concat_tables(held)


def _shared(hours: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows; a small table is joined with those that follow it."""
    held: list[pa.Table] = []
    for rows in hours:
        held.append(rows)
        if sum(map(len, held)) >= MIN_GROUP_ROWS:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
