"""Parquet: typed columns as the API takes them."""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from infra.datasets import sources
from infra.datasets.options import AS_IT_IS, ReadOptions
from infra.datasets.rows import Fault
from tests.unit.infra.datasets.reading import Found, whole, written

AT = datetime(2009, 10, 27, 21, 0, 21, tzinfo=UTC)


def items(folder: Path, columns: dict[str, Any], options: ReadOptions = AS_IT_IS) -> Found:
    path = folder / "file"
    parquet.write_table(pa.table(columns), path, row_group_size=2)
    return whole(sources.items(path, options))


def test_columns_of_any_type_are_read(tmp_path: Path) -> None:
    found = items(
        tmp_path,
        {
            "sku": pa.array([1, 2, 3]),
            "title": pa.array(["a", None, ""]),
            "type": pa.array(["x", "y", "x"]).dictionary_encode(),
            "tags": pa.array([["a", "b"], [], None]),
            "embedding": pa.array([[0.5, 1.0], None, None], pa.list_(pa.float32(), 2)),
            "available": pa.array([True, False, None]),
            "published_at": pa.array([AT, AT, None], pa.timestamp("ns", "Europe/Berlin")),
            "expires_at": pa.array([date(9999, 12, 31), None, None]),
            "attributes.price": pa.array([Decimal("1.50"), None, None]),
            "attributes.weight": pa.array([1.5, float("nan"), None]),
            "attributes.raw": pa.array([b"x", None, None]),
            "struct": pa.array([{"a": 1}, None, None]),
        },
        ReadOptions({"item_id": "sku"}),
    )
    assert found.rows[0] == {
        "item_id": "1",
        "title": "a",
        "type": "x",
        "tags": ["a", "b"],
        "embedding": [0.5, 1.0],
        "available": True,
        "published_at": "2009-10-27T21:00:21.000Z",
        "expires_at": "9999-12-31T00:00:00.000Z",
        "attributes": {"price": 1.5, "weight": 1.5, "raw": "x"},
    }
    assert found.rows[2] == {"item_id": "3", "type": "x"}
    assert (found.lines, found.faults, found.error) == ([1, 2, 3], [], "")
    assert found.notes.texts["columns_not_read"].endswith(": struct")


def test_a_column_of_ids_that_are_floats_is_read_without_fractions(tmp_path: Path) -> None:
    found = items(tmp_path, {"item_id": [1.0, 2.0, None], "group_id": [1.0, 1.5, 2.0]})
    assert found.rows == [
        {"item_id": "1", "group_id": "1"},
        {"item_id": "2", "group_id": "1.5"},
        {"group_id": "2"},
    ]
    assert found.notes.counts["ids_with_fraction"] == 2


def test_times_of_any_unit_and_without_a_zone(tmp_path: Path) -> None:
    for unit in ("s", "ms", "us", "ns"):
        column = pa.array([AT.replace(tzinfo=None), None], pa.timestamp(unit))
        found = items(tmp_path, {"item_id": ["a", "b"], "published_at": column})
        assert found.rows[0]["published_at"] == "2009-10-27T21:00:21.000Z"
        assert found.notes.counts["times_without_offset"] == 1
    early = pa.array([datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)], pa.timestamp("ms", "UTC"))
    found = items(tmp_path, {"item_id": ["a"], "published_at": early})
    assert found.rows[0]["published_at"] == "1970-01-01T00:00:01.000Z"


def test_a_value_that_its_field_does_not_take_costs_its_row(tmp_path: Path) -> None:
    text = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"ok"]).buffers())
    far = pa.array([0, 2**62], pa.int64()).view(pa.timestamp("ms", "UTC"))
    found = items(tmp_path, {"item_id": ["a", "b"], "title": text, "expires_at": far})
    assert found.faults == [Fault(1, "title", "wrong_type"), Fault(2, "expires_at", "not_a_time")]


def test_nested_columns_are_refused_where_they_are_taken(tmp_path: Path) -> None:
    found = items(tmp_path, {"item_id": ["a"], "attributes": [{"a": 1}], "tags": [["a"]]})
    assert "has nested columns as attributes: write each" in found.error
    assert "has no column item_id, only sku" in items(tmp_path, {"sku": ["a"]}).error


@pytest.mark.parametrize("cut", [8, 100, -1])
def test_cut_parquet_is_told(tmp_path: Path, cut: int) -> None:
    items(tmp_path, {"item_id": [f"i{n}" for n in range(1000)]})
    path = written(tmp_path, (tmp_path / "file").read_bytes()[:cut])
    assert "is damaged or cut Parquet" in whole(sources.items(path)).error


def test_names_that_are_no_utf_8_are_damage(tmp_path: Path) -> None:
    items(tmp_path, {"item_id": ["a"]})
    data = (tmp_path / "file").read_bytes().replace(b"item_id", b"item_\xff\xff")
    assert "is damaged or cut Parquet" in whole(sources.items(written(tmp_path, data))).error


def test_parquet_within_gzip_is_told(tmp_path: Path) -> None:
    items(tmp_path, {"item_id": ["a"]})
    path = written(tmp_path, gzip.compress((tmp_path / "file").read_bytes()))
    assert "is Parquet in other compression" in whole(sources.items(path)).error


def test_many_columns_cost_no_memory_for_those_that_are_not_taken(tmp_path: Path) -> None:
    found = items(tmp_path, {"item_id": ["a"]} | {f"c{n}": [n] for n in range(2000)})
    assert found.rows == [{"item_id": "a"}]
    assert found.notes.counts["columns_not_read"] == 2000
