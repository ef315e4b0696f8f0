"""The lake's tables, one a topic: the log as written, and beside it the columns that analysts ask for.

Offset, record time, key, value and headers are the record, byte for byte. The typed columns are decoded
from its value, null where it does not decode: a record that no fold takes is in the lake too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from types import NoneType
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from schemas import control, dead_letters, events, items, readouts, slates
from schemas.access import audit
from schemas.alphabet import Millis
from schemas.state.fences import Fence
from schemas.topics import AUDIT, CONTROL, DEAD_LETTERS, EVENTS, EXPERIMENTS, ITEMS, SLATES

VERSION: Final = 1
"""Version of the lake's tables and manifests."""
TIME: Final = pa.timestamp("ms")
"""UTC."""
TEXTS: Final = pa.list_(pa.string())
RANKS: Final = pa.list_(pa.int64())
UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
LOG: Final = (
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("timestamp", TIME, nullable=False),
    pa.field("key", pa.binary()),
    pa.field("value", pa.binary()),
)
"""The columns of every record; `timestamp` is Kafka's, the producer's clock."""
HEADERS: Final = pa.field(
    "headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))
)
INDEX: Final = pa.field("index", pa.int32(), nullable=False)
"""The index of a record in its frame, 0 for a single record: (partition, offset, index) names a row. Files of
before frames lack it."""
FIELD_ID: Final = "PARQUET:field_id"
LOG_IDS: Final = {
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
FIELD_IDS: Final[Mapping[str, Mapping[str, int]]] = {
    EVENTS.name: {
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
    },
    ITEMS.name: {
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
    CONTROL.name: {
        "subject": 101,
        "id": 102,
        "expected_version": 103,
        "received_at": 104,
        "actor": 105,
        "reason": 106,
        "body": 107,
    },
    SLATES.name: {
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
    EXPERIMENTS.name: {
        "experiment_id": 101,
        "version": 102,
        "placement": 103,
        "revision": 104,
        "as_of": 105,
        "units": 106,
    },
    DEAD_LETTERS.name: {
        "of_topic": 101,
        "of_partition": 102,
        "of_offset": 103,
        "reason": 104,
        "record_at": 105,
        "of_index": 106,
    },
    AUDIT.name: {
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
"""By topic and path, beside `LOG_IDS`, which stay below 100: an id identifies a column, whatever its name.
A new column takes the next number of its table; the number of a removed one is never used again."""


class ManifestEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a partition: all records at offsets start <= offset < end.

    `name`: the object, under the lake's root. `bytes` and `sha256` are the object's; `first_at` and
    `last_at` the least and the greatest record time in it, ms.
    """

    name: str
    start: int
    end: int
    rows: int
    bytes: int
    sha256: str
    first_at: Millis
    last_at: Millis
    topic_id: str
    partitions: int
    version: int = VERSION
    clustered: bool = False
    """Rows lie by (hour, cluster column, offset), not in the order of the log."""


class LakeFence(Fence, array_like=True, gc=False):
    """The lake's position in a partition, and the entry committed with it: the next writer puts the entry
    into the manifest, if its own was killed before it did."""

    entry: ManifestEntry | None = None
    origin: int = 0
    """First offset of the chain of entries."""


ENTRY_DECODER: Final = msgspec.json.Decoder(ManifestEntry)
FENCE_DECODER: Final = msgspec.msgpack.Decoder(LakeFence)


Cells = Callable[[type, Sequence[Any]], "list[Any] | pa.Array | None"]
"""(type, records of that type) -> their cells in a column; None is null, for one or for all."""


class Column(NamedTuple):
    name: str
    type: pa.DataType
    cells: Cells

    def array(self, kind: type, records: Sequence[Any]) -> pa.Array:
        """The column's cells of `records`, all of the type `kind`."""
        cells = self.cells(kind, records)
        if cells is None:
            return pa.nulls(len(records), self.type)
        return _array(cells, self.type) if isinstance(cells, list) else cells


class Table(NamedTuple):
    """`cluster`: the column by which the rows of a compacted hour are sorted."""

    topic: str
    decode: Callable[[bytes], Any]
    columns: tuple[Column, ...]
    cluster: str = "key"

    @property
    def view(self) -> str:
        """Its name in SQL."""
        return self.topic.replace("-", "_")

    @property
    def schema(self) -> pa.Schema:
        typed = [pa.field(column.name, column.type) for column in self.columns]
        ids = {**LOG_IDS, **FIELD_IDS[self.topic]}
        fields = [_numbered(it, it.name, ids) for it in (*LOG, HEADERS, INDEX, *typed)]
        return pa.schema(fields, metadata=self.metadata)

    @property
    def metadata(self) -> dict[str, str]:
        return {"table": self.topic, "version": str(VERSION)}

    def typed(self, values: Sequence[bytes | None]) -> list[pa.Array]:
        """The typed columns, each of ``len(values)`` cells."""
        records = self._decoded(values)
        indices = _by_type(records)
        if len(indices) < 2:
            kind = next(iter(indices), NoneType)
            return [column.array(kind, records) for column in self.columns]
        groups = [(kind, [records[n] for n in held]) for kind, held in indices.items()]
        # a group's rows are adjacent here: each goes back to its own index
        positions = pa.array(
            np.argsort(np.fromiter(chain(*indices.values()), np.int64, len(records)))
        )
        return [
            pa.concat_arrays([it.array(*group) for group in groups]).take(positions)
            for it in self.columns
        ]

    def _decoded(self, values: Sequence[bytes | None]) -> list[Any]:
        records: list[Any] = []
        remaining = iter(values)
        while len(records) < len(values):
            try:  # nearly all values decode; the records before an error are kept
                records.extend(map(self.decode, remaining))  # type: ignore[arg-type]
            except (*UNDECODABLE, TypeError):  # a record without a value has the wrong type
                records.append(None)
        return records


def _numbered(field: pa.Field, path: str, ids: Mapping[str, int]) -> pa.Field:
    """`field` with its id and those of its nested fields. Errors: KeyError for a field without an id."""
    kind = field.type
    if pa.types.is_list(kind):
        kind = pa.list_(_numbered(kind.value_field, f"{path}.element", ids))
    elif pa.types.is_struct(kind):
        kind = pa.struct([_numbered(it, f"{path}.{it.name}", ids) for it in kind])
    return field.with_type(kind).with_metadata({FIELD_ID: str(ids[path])})


def _by_type(records: Sequence[Any]) -> dict[type, list[int]]:
    """The indices of the records of each type."""
    indices: dict[type, list[int]] = defaultdict(list)
    for n, kind in enumerate(map(type, records)):
        indices[kind].append(n)
    return indices


def _array(cells: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(cells, kind)
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):  # a number no column can hold
        return pa.concat_arrays([_cell(cell, kind) for cell in cells])


def _cell(cell: Any, kind: pa.DataType) -> pa.Array:
    try:
        return pa.array([cell], kind)
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
        return pa.nulls(1, kind)


def _attribute(name: str, kind: pa.DataType, path: str = "") -> Column:
    """A column of the attribute `name`, or of that at the end of `path`; null where the type has none."""
    path = path or name
    first, get = path.partition(".")[0], attrgetter(path)
    return Column(
        name, kind, lambda type_, its: list(map(get, its)) if hasattr(type_, first) else None
    )


def _text(name: str, path: str = "") -> Column:
    """`_attribute` of a text; "" is null."""
    column = _attribute(name, _TEXT, path)

    def cells(kind: type, records: Sequence[Any]) -> list[str | None] | None:
        found = column.cells(kind, records)
        return None if found is None else [cell or None for cell in found]

    return column._replace(cells=cells)


def _each(name: str, kind: pa.DataType, get: Callable[[Any], Any]) -> Column:
    """A column of `get` of each record; null where a value did not decode."""
    return Column(name, kind, lambda type_, its: None if type_ is NoneType else list(map(get, its)))


def _kind(type_: Any, records: Sequence[Any]) -> pa.Array | None:
    if type_ is NoneType:
        return None
    return pa.repeat(str(type_.__struct_config__.tag), len(records))


def _of(kind: type, name: str, column: pa.DataType, path: str = "") -> Column:
    """A column of an attribute of the records of one type; null where a record on the path has none."""
    steps = (path or name).split(".")

    def cells(type_: type, records: Sequence[Any]) -> list[Any] | None:
        if type_ is not kind:
            return None
        found = list(records)
        for step in steps:
            found = [None if it is None else getattr(it, step) for it in found]
        return found

    return Column(name, column, cells)


def _event_id(type_: type, records: Sequence[Any]) -> list[Any] | None:
    # the id of a slate is its `slate_id`
    return None if type_ is events.Served else _attribute("event_id", _TEXT).cells(type_, records)


def _item_id(type_: type, records: Sequence[Any]) -> list[Any] | None:
    path = "item.item_id" if type_ is items.PutItem else "item_id"
    return _attribute("item_id", _TEXT, path).cells(type_, records)


def _body(it: control.Change) -> str | None:
    try:
        return bytes(it.body).decode()
    except UnicodeDecodeError:  # raw JSON is not checked
        return None


_TEXT, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()

TABLES: Final = (
    Table(
        EVENTS.name,
        events.DECODER.decode,
        (
            Column("kind", _TEXT, _kind),
            _text("person"),
            Column("event_id", _TEXT, _event_id),
            _text("item_id"),
            _text("action"),
            _attribute("occurred_at", TIME),
            _attribute("received_at", TIME),
            _text("category"),
            _attribute("known", _BOOL),
            _text("session_id"),
            _text("slate_id"),
            _attribute("rank", _INT),
            _attribute("number", _FLOAT, "value"),
            _attribute("dwell_ms", _INT),
            _text("placement"),
            _of(events.Served, "items", TEXTS),
            _text("linked_to", "to"),
            _text("group_id", "group"),
            _attribute("negative", _BOOL),
            _attribute("amount", _INT),
            _text("currency"),
            _attribute("quantity", _INT),
            _of(events.Action, "client", _TEXT, "source.client"),
            _of(events.Action, "mode", _TEXT, "source.mode"),
            _of(events.Action, "agent", _TEXT, "source.agent"),
            _attribute("took_ms", _FLOAT),
            _text("fallback"),
            _text("release"),
            _of(events.Served, "sources", TEXTS),
            _of(events.Served, "swapped", RANKS),
        ),
        cluster="person",
    ),
    Table(
        ITEMS.name,
        items.CHANGE_DECODER.decode,
        (
            Column("kind", _TEXT, _kind),
            Column("item_id", _TEXT, _item_id),
            _attribute("received_at", TIME),
            _text("title", "item.title"),
            _text("category", "item.category"),
            _text("owner_id", "item.owner_id"),
            _attribute("available", _BOOL, "item.available"),
            _attribute("published_at", TIME, "item.published_at"),
            _text("group_id", "item.group_id"),
        ),
    ),
    Table(
        CONTROL.name,
        control.DECODER.decode,
        (
            _text("subject"),
            _text("id"),
            _attribute("expected_version", _INT),
            _attribute("received_at", TIME),
            _text("actor"),
            _text("reason"),
            _each("body", _TEXT, _body),
        ),
    ),
    Table(
        SLATES.name,
        slates.DECODER.decode,
        (
            _text("slate_id"),
            _attribute("served_at", TIME),
            _text("placement"),
            _text("person"),
            _each("items", TEXTS, lambda it: [shown.item_id for shown in it.items]),
            _text("fallback"),
            _text("release"),
            _text("rules"),
            _attribute("took_ms", _FLOAT),
            _text("session_id"),
            _each("sources", TEXTS, lambda it: [slates.source(shown) for shown in it.items]),
            _each("swapped", RANKS, lambda it: [shown.rank for shown in it.items if shown.swapped]),
        ),
        cluster="person",
    ),
    Table(
        EXPERIMENTS.name,
        readouts.DECODER.decode,
        (
            _text("experiment_id"),
            _attribute("version", _INT),
            _text("placement"),
            _attribute("revision", _INT),
            _attribute("as_of", TIME),
            _each("units", _INT, lambda it: sum(variant.units for variant in it.variants)),
        ),
    ),
    Table(
        DEAD_LETTERS.name,
        dead_letters.DECODER.decode,
        (
            _text("of_topic", "topic"),
            _attribute("of_partition", _INT, "partition"),
            _attribute("of_offset", _INT, "offset"),
            _text("reason"),
            _attribute("record_at", TIME),
            _attribute("of_index", _INT, "index"),
        ),
    ),
    Table(
        AUDIT.name,
        audit.DECODER.decode,
        (
            _text("audit_id"),
            _text("stage"),
            _text("kind"),
            _attribute("occurred_at", TIME),
            _text("client"),
            _text("person"),
            _text("token_id"),
            _text("account"),
            _text("method"),
            _text("route"),
            _each("targets", TEXTS, lambda it: list(it.targets)),
            _text("reason"),
            _attribute("status", _INT),
            _text("position"),
            _text("request_id"),
        ),
    ),
)
BY_TOPIC: Final = {table.topic: table for table in TABLES}


def decode_entry(data: bytes) -> ManifestEntry:
    """Errors: `msgspec.MsgspecError`."""
    return ENTRY_DECODER.decode(data)


def encode_entry(entry: ManifestEntry) -> bytes:
    return msgspec.json.encode(entry)


def decode_fence(data: bytes) -> LakeFence:
    """Errors: `msgspec.MsgspecError`."""
    return FENCE_DECODER.decode(data)
