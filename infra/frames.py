"""Frames: records of one partition that travel in one record of the log, as `schemas.headers` defines them.

`spread` is the one place where the records of a frame become records again, `framed` the one where records
become a frame. A reader of `events` or `slates` spreads what it fetched before anything looks at it.

A frame that is none is refused whole: its value is no JSON array, is empty, too long, of too many records, or
of another number than its header says. A record in a frame is refused alone where it is of `events` and is
said to be anything but a served record: what clients do is never framed, since a fold names it by its offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec

from infra.log_reader import Batch, Headers
from schemas.headers import (
    FRAME,
    MAX_FRAME_BYTES,
    MAX_FRAMED_RECORDS,
    TRACEPARENT,
    traced,
    valid_traceparent,
    without,
)
from schemas.record import Record
from schemas.topics import BY_NAME, EVENTS, SLATES

_TRACE: Final = b',"traceparent":"'
_TRACE_BYTES: Final = len(_TRACE) + 55
_SERVED: Final = "served"
_decode_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_NO_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Named(msgspec.Struct):
    """Of a record in a frame, what is outside its value where it is a single record."""

    kind: Any = _SERVED
    person: Any = ""
    slate_id: Any = ""
    traceparent: Any = ""


class _Kind(NamedTuple):
    """The framed records of a topic. `start`: how serving begins the value; `size`: of the key that follows.
    `key`: the field of the key."""

    start: bytes
    size: int
    key: str


_KINDS: Final = {
    EVENTS.name: _Kind(b'{"kind":"served","person":"', 32, "person"),
    SLATES.name: _Kind(b'{"slate_id":"', 26, "slate_id"),
}
_decode_named: Final = msgspec.json.Decoder(_Named).decode


_Single = tuple[bytes, bytes, bytes, bool]
"""Key, value and trace (b"": none) that a record of a frame has as a single one; whether it is refused."""


def spread(topic: str, batch: Batch) -> Batch:
    """The batch with each record of its frames by itself, and each record that is refused marked as such.

    A record of a frame gets the key, the headers and the value of a single one. `batch` is as it was fetched
    from `topic`, or read from the lake; what was spread before stays as it is.
    """
    kind = _KINDS.get(topic)
    if kind is None or not batch.headers or all(batch.keys):
        return batch
    frames = {n for n, key in enumerate(batch.keys) if not key and _has_header(batch.headers[n])}
    if not frames:
        return batch
    made = _Spread(batch)
    for n in range(len(batch.offsets)):
        if n in frames:
            made.add_frame(n, kind)
        else:
            made.add(n)
    return made.batch()


def cut(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in parts of at most `size` records that chain; no frame is cut."""
    offsets, start, first = batch.offsets, 0, batch.first
    while len(offsets) - start > size:
        end = start + size
        while end > start and offsets[end] == offsets[end - 1]:
            end -= 1
        if end == start:  # the frame alone has more
            end = start + size
            while end < len(offsets) and offsets[end] == offsets[end - 1]:
                end += 1
        if end == len(offsets):
            break
        yield _between(batch, first, offsets[end - 1] + 1, start, end)
        start, first = end, offsets[end - 1] + 1
    yield _between(batch, first, batch.next, start, len(offsets)) if start else batch


def framed(topic: str, records: Sequence[Record], max_bytes: int = MAX_FRAME_BYTES) -> list[Record]:
    """`records` of `topic`, those of a partition that come one after the other joined to frames of two or
    more. Each partition's order stays. `max_bytes`: of a frame's value, at most `MAX_FRAME_BYTES`.
    """
    if len(records) < 2:
        return list(records)
    common, most = BY_NAME[topic].headers, min(max_bytes, MAX_FRAME_BYTES)
    found: list[Record] = []
    by_partition = sorted(records, key=lambda it: it.partition)
    for _, those in groupby(by_partition, lambda it: it.partition):
        elements: list[bytes] = []
        run: list[Record] = []
        size = 1
        for record in those:
            element = _element(record, common)
            more = len(element) + 1 if element is not None else 0
            if element is None or size + more > most or len(run) == MAX_FRAMED_RECORDS:
                found += _joined(run, elements, common)
                elements, run, size = [], [], 1
            if element is None or 1 + more > most:
                found.append(record)
                continue
            run.append(record)
            elements.append(element)
            size += more
        found += _joined(run, elements, common)
    return found


class _Spread:
    """A spread batch in the making."""

    def __init__(self, batch: Batch) -> None:
        self._from = batch
        self._offsets: list[int] = []
        self._timestamps: list[int] = []
        self._indexes: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._headers: list[Headers] = []
        self._refused: dict[int, bytes | None] = {}

    def add(self, n: int) -> None:
        """Adds record number `n` of the batch, a single one."""
        self._begin(n, [self._from.index(n)])
        self._append(self._from.keys[n], self._from.values[n], self._from.headers[n])

    def add_frame(self, n: int, kind: _Kind) -> None:
        """Adds the records of the frame with number `n` in the batch, or refuses it."""
        headers, value = self._from.headers[n], self._from.refused.get(n, self._from.values[n])
        elements = _elements(value, headers)
        if elements is None:
            self._begin(n, [self._from.index(n)])
            self._refuse(value, headers)
            return
        self._begin(n, range(len(elements)))
        common = without(headers, FRAME)
        for element in elements:
            key, single, trace, refused = _single(element, kind)
            if refused:  # it keeps the header, so that it is refused wherever it is read again
                self._refuse(element, headers)
            else:
                own = traced(without(common, TRACEPARENT), trace) if trace else common
                self._append(key, single, own)

    def _begin(self, n: int, indexes: Sequence[int]) -> None:
        self._offsets += [self._from.offsets[n]] * len(indexes)
        self._timestamps += [self._from.timestamps[n]] * len(indexes)
        self._indexes += indexes

    def _append(self, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        self._keys.append(key)
        self._values.append(value)
        self._headers.append(headers)

    def _refuse(self, value: bytes | None, headers: Headers) -> None:
        self._refused[len(self._values)] = value
        self._append(b"", None, headers)

    def batch(self) -> Batch:
        return replace(
            self._from,
            offsets=self._offsets,
            timestamps=self._timestamps,
            values=self._values,
            keys=self._keys,
            headers=self._headers,
            indexes=self._indexes if any(self._indexes) else [],
            refused=self._refused,
        )


def _has_header(headers: Headers) -> bool:
    return any(name == FRAME for name, _ in headers)


def _elements(value: bytes | None, headers: Headers) -> list[bytes] | None:
    """The values in a frame; None where it is none."""
    if value is None or len(value) > MAX_FRAME_BYTES:
        return None
    try:
        elements = list(map(bytes, _decode_array(value)))
    except _NO_JSON:
        return None
    if not 0 < len(elements) <= MAX_FRAMED_RECORDS:
        return None
    return elements if dict(headers)[FRAME] == b"%d" % len(elements) else None


def _single(element: bytes, kind: _Kind) -> _Single:
    start, size, _ = kind
    end = len(start) + size
    if not element.startswith(start) or not element.startswith(b'"', end):
        return _single_by_fields(element, kind)
    key = element[len(start) : end]
    if b"\\" in key or b'"' in key:
        return _single_by_fields(element, kind)
    if b'"traceparent"' not in element:  # nearly always: it is as serving writes it
        return key, element, b"", False
    trace = _last_trace(element)
    return (key, _untraced(element), trace, False) if trace else _single_by_fields(element, kind)


def _single_by_fields(element: bytes, kind: _Kind) -> _Single:
    """The same of a value that serving would write otherwise."""
    try:
        named = _decode_named(element)
    except _NO_JSON:
        return b"", element, b"", False  # it does not decode, whoever reads it
    if kind.key == "person" and isinstance(named.kind, str) and named.kind != _SERVED:
        return b"", element, b"", True
    trace = valid_traceparent([_text(named.traceparent)])
    if trace and trace == _last_trace(element):
        element = _untraced(element)
    return _text(getattr(named, kind.key)), element, trace, False


def _last_trace(element: bytes) -> bytes:
    """The trace that ends a value, as `_element` puts it there; b"" where none does."""
    at = len(element) - _TRACE_BYTES - 2
    if at < 0 or not element.startswith(_TRACE, at) or not element.endswith(b'"}'):
        return b""
    return valid_traceparent([element[at + len(_TRACE) : -2]])


def _untraced(element: bytes) -> bytes:
    """The value without the trace that ends it."""
    return b"".join((element[: -_TRACE_BYTES - 2], b"}"))


def _text(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else b""


def _between(batch: Batch, first: int, next_offset: int, start: int, end: int) -> Batch:
    part = slice(start, end)
    return replace(
        batch,
        first=first,
        next=next_offset,
        offsets=batch.offsets[part],
        timestamps=batch.timestamps[part],
        values=batch.values[part],
        keys=batch.keys[part],
        headers=batch.headers[part],
        indexes=batch.indexes[part],
        refused={n - start: value for n, value in batch.refused.items() if start <= n < end},
    )


def _element(record: Record, common: Headers) -> bytes | None:
    """The value of a record in a frame; None for one that has to stay single."""
    headers = record.headers
    if headers == common:
        return record.value
    if len(headers) != len(common) + 1 or headers[:-1] != common or headers[-1][0] != TRACEPARENT:
        return None
    return record.value[:-1] + _TRACE + headers[-1][1] + b'"}'


def _joined(run: list[Record], elements: list[bytes], common: Any) -> list[Record]:
    if len(run) < 2:
        return run
    value = b"[" + b",".join(elements) + b"]"
    return [Record(b"", run[0].partition, value, (*common, (FRAME, b"%d" % len(run))))]
