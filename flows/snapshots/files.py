"""The objects of a snapshot: written with size and hash, and read only where both match."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from infra.lake.store import Store
from schemas.errors import FreshetError
from schemas.snapshots import FOLDER, MANIFEST, SnapshotFile

ROW_GROUP_ROWS: Final = 20_000
"""Some 25 MB of people."""
Row = tuple[bytes, ...]


class SnapshotError(FreshetError):
    """A snapshot that cannot be used or made; the text names it and the file."""


class BadSnapshot(SnapshotError):
    """An object of a snapshot is missing, torn, or differs from the manifest."""


class ForeignSnapshot(SnapshotError):
    """A snapshot of another log, or made by another version of Freshet."""


class NoSnapshot(SnapshotError):
    """There is no such snapshot."""


def path(snapshot: str, name: str) -> str:
    return f"{FOLDER}/{snapshot}/{name}"


def write_rows(
    store: Store, snapshot: str, name: str, schema: pa.Schema, rows: Iterable[Row]
) -> SnapshotFile:
    """Writes a Parquet file of binary columns. Errors: `infra.lake.errors.LakeError`."""
    count, rows = 0, iter(rows)
    with (
        store.create(path(snapshot, name)) as sink,
        pq.ParquetWriter(
            pa.PythonFile(sink, mode="w"),
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_statistics=False,
        ) as writer,
    ):
        while chunk := list(islice(rows, ROW_GROUP_ROWS)):
            columns = [pa.array(column, pa.binary()) for column in zip(*chunk, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))
            count += len(chunk)
    return SnapshotFile(name=name, rows=count, bytes=sink.bytes, sha256=sink.sha256)


def write_bytes(store: Store, snapshot: str, name: str, data: bytes, rows: int) -> SnapshotFile:
    store.put(path(snapshot, name), data)
    return SnapshotFile(
        name=name, rows=rows, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )


def read_bytes(store: Store, snapshot: str, file: SnapshotFile) -> bytes:
    """The object's bytes. Errors: `BadSnapshot`, `infra.lake.errors.LakeError`."""
    try:
        data = store.get(path(snapshot, file.name))
    except FileNotFoundError:
        raise bad_snapshot(snapshot, file.name, "is missing") from None
    if len(data) != file.bytes:
        raise bad_snapshot(
            snapshot, file.name, f"has {len(data)} bytes, the manifest says {file.bytes}"
        )
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise bad_snapshot(snapshot, file.name, "has another sha256 than the manifest says")
    return data


def read_rows(store: Store, snapshot: str, file: SnapshotFile, schema: pa.Schema) -> Iterator[Row]:
    """The rows of a Parquet file. Errors: `BadSnapshot`, `infra.lake.errors.LakeError`."""
    data, count = read_bytes(store, snapshot, file), 0
    try:
        held = pq.ParquetFile(pa.BufferReader(data))
        if not held.schema_arrow.equals(schema):
            raise bad_snapshot(snapshot, file.name, "has other columns than a snapshot has")
        for batch in held.iter_batches(ROW_GROUP_ROWS):
            count += len(batch)
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
    except (pa.ArrowInvalid, OSError):
        raise bad_snapshot(snapshot, file.name, "is not readable as Parquet") from None
    if count != file.rows:
        raise bad_snapshot(snapshot, file.name, f"has {count} rows, the manifest says {file.rows}")


def bad_snapshot(snapshot: str, name: str, what: str) -> BadSnapshot:
    return BadSnapshot(
        f"snapshot {snapshot}: {name} {what}; restore it, or remove the snapshot (freshet snapshot"
        " remove) and make a new one"
    )


def names(store: Store) -> dict[str, dict[str, Any]]:
    """By snapshot, complete or not, its objects: name -> `infra.objects.Object`."""
    found: dict[str, dict[str, Any]] = {}
    for held in store.list(FOLDER):
        _, snapshot, name = held.name.split("/", 2)
        found.setdefault(snapshot, {})[name] = held
    return found


def remove(store: Store, snapshot: str) -> None:
    """Deletes the manifest first, so that an interrupted removal leaves no snapshot."""
    held = names(store).get(snapshot, {})
    for name in sorted(held, key=lambda name: name != MANIFEST):
        store.delete(path(snapshot, name))
