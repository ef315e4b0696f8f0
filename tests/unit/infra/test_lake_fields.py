"""Columns of the lake keep their ids: in each file, under compaction, beside files that have none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.offline.sql import Tables
from infra.lake.compact import compact
from infra.lake.reader import Lake
from infra.lake.store import Store
from infra.settings import Settings
from schemas.lake import BY_TOPIC, FIELD_IDS, LOG_IDS, TABLES, Table
from schemas.topics import EVENTS
from tests.support import lakes
from tests.support.lakes import DAY, action

HEADERS = [("freshet-schema", b"event/1")]
EVENT_IDS = {
    "kind": 101,
    "person": 102,
    "event_id": 103,
    "item_id": 104,
    "action": 105,
    "occurred_at": 106,
    "received_at": 107,
    "category": 108,
    "known": 109,
    "session_id": 110,
    "slate_id": 111,
    "rank": 112,
    "number": 113,
    "dwell_ms": 114,
    "placement": 115,
    "items": 116,
    "items.element": 117,
    "linked_to": 118,
    "group_id": 119,
    "negative": 120,
    "amount": 121,
    "currency": 122,
    "quantity": 123,
    "client": 124,
    "mode": 125,
    "agent": 126,
    "took_ms": 127,
    "fallback": 128,
    "release": 129,
    "sources": 130,
    "sources.element": 131,
    "swapped": 132,
    "swapped.element": 133,
}
"""Of `events`. Ids are for life: a number here is never changed, and never given to another column."""
IDS = {
    "events": EVENT_IDS,
    "items": {
        "kind": 101,
        "item_id": 102,
        "received_at": 103,
        "title": 104,
        "category": 105,
        "owner_id": 106,
        "available": 107,
        "published_at": 108,
        "group_id": 109,
    },
    "control": {
        "subject": 101,
        "id": 102,
        "expected_version": 103,
        "received_at": 104,
        "actor": 105,
        "reason": 106,
        "body": 107,
    },
    "slates": {
        "slate_id": 101,
        "served_at": 102,
        "placement": 103,
        "person": 104,
        "items": 105,
        "items.element": 106,
        "fallback": 107,
        "release": 108,
        "rules": 109,
        "took_ms": 110,
        "session_id": 111,
        "sources": 112,
        "sources.element": 113,
        "swapped": 114,
        "swapped.element": 115,
    },
    "experiments": {
        "experiment_id": 101,
        "version": 102,
        "placement": 103,
        "revision": 104,
        "as_of": 105,
        "units": 106,
    },
    "dead-letters": {
        "of_topic": 101,
        "of_partition": 102,
        "of_offset": 103,
        "reason": 104,
        "record_at": 105,
        "of_index": 106,
    },
    "audit": {
        "audit_id": 101,
        "stage": 102,
        "kind": 103,
        "occurred_at": 104,
        "client": 105,
        "person": 106,
        "token_id": 107,
        "account": 108,
        "method": 109,
        "route": 110,
        "targets": 111,
        "targets.element": 112,
        "reason": 113,
        "status": 114,
        "position": 115,
        "request_id": 116,
    },
}
LOG = {
    "offset": 1,
    "timestamp": 2,
    "key": 3,
    "value": 4,
    "headers": 5,
    "headers.element": 6,
    "headers.element.name": 7,
    "headers.element.value": 8,
    "index": 9,
}


def ids_of(schema: pa.Schema) -> dict[str, int]:
    """Path -> id, of nested fields too."""

    def walk(field: pa.Field, path: str) -> Iterator[tuple[str, int]]:
        yield path, int(field.metadata[b"PARQUET:field_id"])
        if pa.types.is_list(field.type):
            yield from walk(field.type.value_field, f"{path}.element")
        elif pa.types.is_struct(field.type):
            for it in field.type:
                yield from walk(it, f"{path}.{it.name}")

    return dict(pair for field in schema for pair in walk(field, field.name))


def test_field_ids_never_change() -> None:
    assert LOG_IDS == LOG
    assert FIELD_IDS == IDS


@pytest.mark.parametrize("table", TABLES, ids=lambda it: it.topic)
def test_each_column_has_an_id_of_its_own(table: Table) -> None:
    found = ids_of(table.schema)
    assert found == {**LOG, **IDS[table.topic]}
    assert len(set(found.values())) == len(found)
    assert max(LOG.values()) < 100 < min(IDS[table.topic].values())


def file_ids(lake: Lake) -> list[dict[str, int]]:
    """The field ids in the files of the chain."""
    manifest = lake.manifest(EVENTS.name, 0)
    paths = [lake.store.path(entry.name) for entry in manifest.entries(manifest.chain())]
    return [ids_of(pq.read_schema(path)) for path in paths]


def records(first: int, headers: Any) -> Any:
    made = lakes.batch(
        first, [action(n, n, DAY + n) for n in range(5)], [DAY + n for n in range(5)]
    )
    made.headers = headers
    return made


def test_files_carry_field_ids_and_compaction_keeps_them(tmp_path: Path) -> None:
    lake = Lake(Store(str(tmp_path / "lake")))
    lakes.put(lake, [records(0, [HEADERS] * 5), records(5, ()), lakes.batch(10, [b"x"], [3 * DAY])])
    assert file_ids(lake) == [ids_of(BY_TOPIC[EVENTS.name].schema)] * 3
    compact(lake, EVENTS.name, 0, 3 * DAY)
    assert file_ids(lake) == [ids_of(BY_TOPIC[EVENTS.name].schema)] * 2


def test_files_without_field_ids_are_read_beside_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ids, and without the columns that came later: headers, or one read out of the value."""
    lake, table = Lake(Store(str(tmp_path / "lake"))), BY_TOPIC[EVENTS.name]
    before = pa.schema(
        [
            field.with_metadata(None)
            for field in table.schema
            if field.name not in ("headers", "rank")
        ],
        table.metadata,
    )

    class Old(pq.ParquetWriter):  # type: ignore[misc]  # pyarrow ships no types
        def __init__(self, sink: Any, schema: pa.Schema, **options: Any) -> None:
            options["use_dictionary"] = False
            super().__init__(sink, before.with_metadata(schema.metadata), **options)

        def write_table(self, rows: pa.Table, row_group_size: int | None = None) -> None:
            super().write_table(rows.select(before.names), row_group_size)

    with monkeypatch.context() as patched:
        patched.setattr("infra.lake.write.pq.ParquetWriter", Old)  # "ParquetWriter", Old)
        lakes.put(lake, [records(0, ())])
    lakes.put(lake, [records(5, [HEADERS] * 5), lakes.batch(10, [b"x"], [3 * DAY])])

    def check() -> None:
        found = lakes.everything(lake)
        assert found.offsets == list(range(11))
        assert [list(it) for it in found.headers] == [[]] * 5 + [HEADERS] * 5 + [[]]
        assert lake.select(EVENTS.name).table["rank"].to_pylist() == [None] * 11
        query = "SELECT count(*), count(headers) FROM events WHERE rank IS NULL"
        assert list(Tables(Settings(data_dir=tmp_path)).ask(query)[1]) == [(11, 5)]

    check()
    compact(lake, EVENTS.name, 0, 3 * DAY)
    assert len(file_ids(lake)) == 2
    check()
