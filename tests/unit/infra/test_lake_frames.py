"""Frames in the lake: a row for each record, named by partition, offset and index, also once compacted."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.offline.sql import Tables
from infra.frames import framed, spread
from infra.lake.compact import compact
from infra.lake.reader import Lake
from infra.lake.store import Store
from infra.lake.write import columns, data_name
from infra.log_reader import Batch
from infra.settings import Settings
from schemas import events
from schemas.headers import FRAME, traced
from schemas.lake import BY_TOPIC, ManifestEntry
from schemas.record import Record
from schemas.topics import EVENTS
from tests.support import lakes
from tests.support.lakes import DAY, HOUR, action, person, put

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REPEATED = 68
"""A slate of each person comes again so many records later."""
Row = tuple[int, int, bytes | None, bytes | None, tuple[object, ...], bool]
"""(offset, index, key, value, headers, refused)."""


def served(n: int) -> Record:
    event = events.Served(
        person=person(n % 4),
        slate_id=f"s{n % REPEATED}",
        placement="home",
        received_at=DAY,
        items=("a",),
    )
    headers = traced(EVENTS.headers, TRACE if n % 5 == 0 else b"")
    return Record(person(n % 4).encode(), 0, events.encode(event), headers)


def fetched(records: list[Record], first: int, at: int) -> Batch:
    """What a fetch from offset `first` brings."""
    offsets = list(range(first, first + len(records)))
    return Batch(
        0,
        first,
        first + len(records),
        offsets,
        [at] * len(records),
        [it.value for it in records],
        keys=[it.key for it in records],
        headers=[it.headers for it in records],
    )


def log() -> list[Batch]:
    """Frames of 8 and single records between them, in an hour; some frames are bad, one holds an action."""
    found, first = list[Batch](), 0
    with_action = b"[%b,%b]" % (served(1).value, action(1, 1, DAY))
    for n in range(0, 96, 12):
        records = framed(EVENTS.name, [served(n + m) for m in range(8)])
        records += [served(n + 8)]
        records.append(Record(b"", 0, b"[]", (*EVENTS.headers, (FRAME, b"0"))))
        records.append(Record(b"", 0, with_action, (*EVENTS.headers, (FRAME, b"2"))))
        found.append(spread(EVENTS.name, fetched(records, first, DAY + n)))
        first += len(records)
    return found


def rows(batches: list[Batch]) -> list[Row]:
    return [
        (offset, batch.index(n), batch.keys[n], value, tuple(batch.headers[n]), n in batch.refused)
        for batch in batches
        for n, (offset, value) in enumerate(zip(batch.offsets, batch.stored_values(), strict=True))
    ]


@pytest.fixture
def held(tmp_path: Path) -> Lake:
    return Lake(Store(str(tmp_path / "lake")))


def read(held: Lake, size: int) -> list[Batch]:
    return list(held.read(EVENTS.name, 0, *held.bounds(EVENTS.name, 0), size))


@pytest.mark.parametrize("size", [1, 5, 8, 11, 1000])
def test_records_come_back_as_they_were_and_no_frame_is_cut(held: Lake, size: int) -> None:
    put(held, log())
    back = read(held, size)
    assert rows(back) == rows(log())
    bounds = [(it.first, it.next) for it in back]
    assert [first for first, _ in bounds] == [0, *(end for _, end in bounds[:-1])]
    assert all(len(it.offsets) <= size or len(set(it.offsets)) == 1 for it in back)


def test_a_compacted_file_has_the_records_of_a_frame_apart_and_gives_them_back_in_order(
    held: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.lake.compact.MAX_SORTED_ROWS", 20)
    monkeypatch.setattr("infra.lake.compact.MIN_GROUP_ROWS", 4)
    monkeypatch.setattr("infra.lake.compact.GROUP_ROWS", 6)
    put(held, log())
    end = held.bounds(EVENTS.name, 0)[1]
    put(held, [lakes.batch(end, [b"{}"], [DAY + 24 * HOUR])])
    (done,) = compact(held, EVENTS.name, 0, DAY + 30 * HOUR)
    assert done.entry.clustered
    for size in (3, 1000):
        assert rows(list(held.read(EVENTS.name, 0, 0, end, size))) == rows(log())
    found = held.select(EVENTS.name, columns=["offset", "index"]).table
    places = list(zip(found["offset"].to_pylist(), found["index"].to_pylist(), strict=True))
    assert places == sorted(set(places))


def test_a_file_of_before_frames_is_read_as_of_single_records(held: Lake, tmp_path: Path) -> None:
    old, table = (
        lakes.batch(0, [action(n, n, DAY) for n in range(4)], [DAY] * 4),
        BY_TOPIC["events"],
    )
    name = data_name(table, 0, 0, 4, "2023-11-15")
    without = columns(table, [old]).drop_columns(["index"])
    with held.store.create(name) as sink, pq.ParquetWriter(sink, without.schema) as file:
        file.write_table(without)
    held.manifest("events", 0).write(
        ManifestEntry(
            name=name, start=0, end=4, rows=4, bytes=sink.bytes, sha256=sink.sha256, first_at=DAY,
            last_at=DAY, topic_id="id", partitions=4,
        )
    )  # fmt: skip
    (batch,) = read(held, 10)
    assert (batch.offsets, batch.values, batch.indexes) == (old.offsets, old.values, [])
    new = [spread("events", fetched(framed("events", [served(1), served(2)]), 4, DAY))]
    put(held, new)
    asked = 'SELECT "offset", "index" FROM events ORDER BY ALL'
    found = list(Tables(Settings(data_dir=tmp_path)).ask(asked)[1])
    assert found == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (4, 1)]
    put(held, [lakes.batch(5, [b"{}"], [DAY + 24 * HOUR])])
    compact(held, EVENTS.name, 0, DAY + 30 * HOUR)
    assert [it.index(n) for it in read(held, 10) for n in range(len(it.offsets))] == [0] * 5 + [
        1,
        0,
    ]


def test_sql_has_a_row_for_each_record_and_drops_each_repeat_alone(
    held: Lake, tmp_path: Path
) -> None:
    put(held, log())
    tables = Tables(Settings(data_dir=tmp_path))
    all_rows = rows(log())

    def ask(query: str) -> list[object]:
        return [it[0] if len(it) == 1 else it for it in tables.ask(query)[1]]

    assert ask("SELECT count(*) FROM events") == [len(all_rows)]
    # what may not be in a frame is no event, and neither is a bad frame
    assert ask("SELECT count(*) FROM events WHERE kind = 'action'") == [0]
    kinds = "SELECT count(*) FROM events WHERE kind IS NULL"
    assert ask(kinds) == [sum(refused for *_, refused in all_rows)]
    named = 'SELECT count(DISTINCT (partition, "offset", "index")) FROM events'
    assert ask(named) == [len(all_rows)]
    distinct = ask("SELECT slate_id FROM events_distinct")
    sent = {n + m for n in range(0, 96, 12) for m in (*range(9), 1)}
    assert len(distinct) == len(set(distinct)) == len({n % REPEATED for n in sent}) < len(sent)
