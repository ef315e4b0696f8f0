"""Writing records into a file: the first of three steps (data object, fence, manifest's entry)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.lake.store import Store
from infra.log_reader import Batch
from infra.objects import Sink
from schemas.lake import HEADERS, TIME, ManifestEntry, Table

GROUP_ROWS: Final = 16_384
"""Rows of a row group, which a read by statistics reads or skips."""
CHUNK_ROWS: Final = 4_096
"""Rows that are decoded at once: few enough for their arrays to stay in the CPU's caches."""
_LAST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""
_TIMES: Final = ("occurred_at", "received_at", "served_at")
_UNIQUE: Final = ("offset", "timestamp", "value", "event_id", "slate_id", *_TIMES)
"""Columns in which hardly a value comes twice: a dictionary would be the column again."""


def columns(table: Table, batches: Sequence[Batch]) -> pa.Table:
    """Batches that chain as one table with the columns of `table`."""
    offsets = [offset for batch in batches for offset in batch.offsets]
    timestamps = [at for batch in batches for at in batch.timestamps]
    keys = [key for batch in batches for key in batch.keys or [None] * len(batch.offsets)]
    values = [value for batch in batches for value in batch.values]
    stored = [value for batch in batches for value in batch.stored_values()]
    indexes = [index for it in batches for index in it.indexes or [0] * len(it.offsets)]
    headers, schema = _headers(batches, len(offsets)), table.schema
    chunks = []
    for first in range(0, len(offsets), CHUNK_ROWS):
        cut = slice(first, first + CHUNK_ROWS)
        arrays = [
            pa.array(offsets[cut], pa.int64()),
            pa.array(timestamps[cut], TIME),
            pa.array(keys[cut], pa.binary()),
            pa.array(stored[cut], pa.binary()),
            headers[cut],
            pa.array(indexes[cut], pa.int32()),
            *table.typed(values[cut]),
        ]
        chunks.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return pa.Table.from_batches(chunks, schema)


def _headers(batches: Sequence[Batch], rows: int) -> pa.Array:
    if not any(batch.headers for batch in batches):
        return pa.nulls(rows, HEADERS.type)
    each = list(chain.from_iterable(it.headers or [()] * len(it.offsets) for it in batches))
    names = pa.array([name for headers in each for name, _ in headers], pa.string())
    values = pa.array([value for headers in each for _, value in headers], pa.binary())
    sizes = np.fromiter(map(len, each), np.int32, rows)
    begins = np.append(np.cumsum(sizes, dtype=np.int32) - sizes, np.int32(len(names)))
    # a record without headers has null, not an empty list
    offsets = pa.array(begins, pa.int32(), mask=np.append(sizes == 0, False))
    item = pa.StructArray.from_arrays([names, values], fields=list(HEADERS.type.value_type))
    return pa.ListArray.from_arrays(offsets, item, HEADERS.type)


def write(
    store: Store, table: Table, batches: Sequence[Batch], topic_id: str, partitions: int
) -> ManifestEntry:
    """Writes the records of batches that chain, one record or more, into an object; answers its entry.

    Until the manifest has the entry, the object counts as an orphan, which is swept. Errors: `LakeError`.
    """
    partition, start, end = batches[0].partition, batches[0].first, batches[-1].next
    timestamps = [at for batch in batches for at in batch.timestamps]
    name = data_name(table, partition, start, end, day_of(timestamps[0]))
    rows = columns(table, batches)
    with store.create(name) as sink, writer(sink, table, headers=_any_headers(rows)) as file:
        file.write_table(rows, row_group_size=GROUP_ROWS)
    return ManifestEntry(
        name=name,
        start=start,
        end=end,
        rows=len(rows),
        bytes=sink.bytes,
        sha256=sink.sha256,
        first_at=min(timestamps),
        last_at=max(timestamps),
        topic_id=topic_id,
        partitions=partitions,
    )


def _any_headers(rows: pa.Table) -> bool:
    return bool(rows["headers"].null_count < len(rows))


def data_name(table: Table, partition: int, start: int, end: int, day: str) -> str:
    """A new object's name, which no object had before."""
    folder = f"data/{table.topic}/day={day}/partition={partition:02}"
    return f"{folder}/{start:020}-{end:020}-{secrets.token_hex(8)}.parquet"


def day_of(at: int) -> str:
    """The UTC day of a record time (ms), YYYY-MM-DD; the nearest day for a time outside 1970 to 9999."""
    return f"{datetime.fromtimestamp(min(max(at, 0), _LAST_MS) / 1000, UTC):%Y-%m-%d}"


def writer(sink: Sink, table: Table, *, headers: bool) -> pq.ParquetWriter:
    """A writer of Parquet. `headers`: some record has headers. Pages carry checksums for readers."""
    metadata: Mapping[str, str] = {**table.metadata, "headers": str(int(headers))}
    options: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": [name for name in _leaves(table) if name not in _UNIQUE],
        "write_page_checksum": True,
        "write_statistics": True,
    }
    return pq.ParquetWriter(sink, table.schema.with_metadata(metadata), **options)


def _leaves(table: Table) -> list[str]:
    """The columns of a table as Parquet names them."""
    found = []
    for field in table.schema:
        if field.name == "headers":
            found += ["headers.list.element.name", "headers.list.element.value"]
        else:
            found.append(
                f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
            )
    return found
