"""Names of events: what an event says, hashed, where it has no id of its own.

The name of an event is `import-` and 16 hexadecimal digits, the 64-bit xxh3 (Collet 2019) of what the event
says; the n-th of several equal ones has `-n` behind it. So spaces, the order of fields and the spelling of a
time change no name, nor does the line where the event is.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import compress
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from infra.apps.bulk_import.hashes import Hashes
from infra.datasets import values
from infra.datasets.rows import Chunk, Fault, Notes
from schemas.events import EventIn
from schemas.identity import trimmed
from schemas.reject import Rejected, from_validation
from schemas.times import DAY_MS, EPOCH

OCCURRENCE_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that the keys of the occurrences of one hash all differ (Steele et al. 2014)."""
_NOT_HELD: Final = ("experiments", "variant", "propensity")
_IDS: Final = ("user_id", "anonymous_id", "item_id")
_TYPES: Final[dict[str, Any]] = {"occurred_at": datetime | None}
_Content: Final[type[Any]] = msgspec.defstruct(
    "_Content",
    [
        (f.name, _TYPES.get(f.name, f.type)) if f.required
        else (f.name, _TYPES.get(f.name, f.type), f.default)
        for f in msgspec.structs.fields(EventIn)
    ],
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    gc=False,
)  # fmt: skip
"""`EventIn` whose time is decoded."""
_DECODER: Final = msgspec.json.Decoder(_Content)
_ENCODE: Final = msgspec.json.Encoder(order="deterministic").encode
_ENCODE_ID: Final = msgspec.json.Encoder().encode
_MILLISECOND: Final = timedelta(milliseconds=1)


class NamedEvents(NamedTuple):
    """n events in the order of their file. `lines[i]`: where `events[i]` is; `bodies[i]`: what to send,
    without an id where the event has none (`unnamed[i]`); `hashes`: of what each says, or of its own id and
    what that names; `times`: ms since 1970."""

    events: list[Any]
    bodies: list[bytes]
    lines: NDArray[np.int64]
    hashes: Hashes
    unnamed: NDArray[np.bool_]
    times: NDArray[np.int64]
    faults: list[Fault]

    @property
    def days(self) -> NDArray[np.int64]:
        """(n,): the day of each event, in days since 1970."""
        return self.times // DAY_MS

    def chosen(self, rows: NDArray[np.bool_]) -> NamedEvents:
        """The events of the (n,) `rows` alone, without the faults."""
        if rows.all():
            return self._replace(faults=[])
        return NamedEvents(
            list(compress(self.events, rows)),
            list(compress(self.bodies, rows)),
            self.lines[rows],
            self.hashes[rows],
            self.unnamed[rows],
            self.times[rows],
            [],
        )


def read(chunk: Chunk, notes: Notes) -> NamedEvents:
    """The events of a chunk; what can't be read is repaired, or is a fault."""
    faults, events, bodies, lines = (
        list(chunk.faults),
        _decoded(chunk.bodies),
        chunk.bodies,
        chunk.lines,
    )
    if events is None or not _plain(events):
        events, bodies, lines = _one_by_one(chunk, notes, faults)
    _trim_ids(events)
    moments = np.array([it.occurred_at.timestamp() for it in events], np.float64)
    micros = np.rint(moments * 1e6).astype(np.int64)
    times = micros // 1000
    for index in np.flatnonzero(micros % 1000).tolist():  # the API cuts to ms, too
        events[index].occurred_at = EPOCH + int(times[index]) * _MILLISECOND
    unnamed = np.array([it.event_id is None for it in events], bool)
    sent, hashes = _hashed(events, bodies, unnamed)
    return NamedEvents(
        events, sent, np.fromiter(lines, np.int64, len(events)), hashes, unnamed, times, faults
    )


def keys(hashes: Hashes, numbers: NDArray[np.int64]) -> Hashes:
    """(n,): what the memory of an import holds of each event: its hash and its `numbers` among equals."""
    return hashes ^ ((numbers - 1).astype(np.uint64) * OCCURRENCE_STEP)


def with_ids(read: NamedEvents, numbers: NDArray[np.int64]) -> list[bytes]:
    """(n,): what to send: each event that has no id of its own gets its name, as the `numbers`-th of its
    content."""
    digits = hexlify(read.hashes.astype(">u8").tobytes())
    names = [digits[at : at + 16] for at in range(0, len(digits), 16)]
    for row in np.flatnonzero(numbers > 1).tolist():
        names[row] += b"-%d" % numbers[row]
    named = [
        b'{"event_id":"import-' + name + b'",' + body[1:]
        for name, body in zip(names, read.bodies, strict=True)
    ]
    for row in np.flatnonzero(~read.unnamed).tolist():
        named[row] = read.bodies[row]
    return named


def people(events: Sequence[Any]) -> list[str]:
    """(n,): whom each event is of, by the ids as `read` leaves them: one text for one person."""
    return [it.user_id or it.anonymous_id or "" for it in events]


def _trim_ids(events: list[Any]) -> None:
    """Spells ids as the edge does, which takes those that look the same for the same."""
    for name in _IDS:
        texts = [getattr(it, name) for it in events]
        joined = "".join(filter(None, texts))
        if joined.isascii() and " " not in joined:  # as in nearly every file
            continue
        for event, text in zip(events, texts, strict=True):
            if text is not None:
                setattr(event, name, trimmed(text))


def _decoded(bodies: Sequence[bytes]) -> list[Any] | None:
    """All events, or None where one of them is refused."""
    try:
        return list(map(_DECODER.decode, bodies))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _plain(events: list[Any]) -> bool:
    """Whether every event has a time in UTC and nothing that the server alone may set."""
    zones = {it.occurred_at.tzinfo if it.occurred_at else None for it in events}
    return zones <= {UTC} and not [
        it for it in events if not (it.experiments is it.variant is it.propensity is UNSET)
    ]


def _one_by_one(
    chunk: Chunk, notes: Notes, faults: list[Fault]
) -> tuple[list[Any], list[bytes], list[int]]:
    events, bodies, lines = [], [], []
    for body, line in zip(chunk.bodies, chunk.lines, strict=True):
        try:
            event, body = _read_one(body, notes)
        except Rejected as error:
            faults.append(Fault(line, error.field, error.code))
            continue
        events.append(event)
        bodies.append(body)
        lines.append(line)
    return events, bodies, lines


def _read_one(body: bytes, notes: Notes) -> tuple[Any, bytes]:
    """An event, its time in UTC, and its body, repaired where it was refused. Errors: `Rejected`."""
    try:
        event = _DECODER.decode(body)
        refused = event.occurred_at is not None and event.occurred_at.tzinfo is None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        refused = True
    if refused:
        body = values.repair_event(body, notes)
        event = decoded(body, _DECODER.decode)
    if event.occurred_at is None:
        raise Rejected("occurred_at", "required")
    if event.occurred_at.tzinfo is None:
        raise Rejected("occurred_at", "not_a_time")
    try:
        event.occurred_at = event.occurred_at.astimezone(UTC)
    except OverflowError:  # the first hours of the year 1
        raise Rejected("occurred_at", "out_of_range") from None
    for name in _NOT_HELD:
        setattr(event, name, UNSET)
    return event, body


def decoded(body: bytes, decode: Callable[[bytes], Any]) -> Any:
    """What `decode` makes of a body. Errors: `Rejected`, with the field that it refuses."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except UnicodeDecodeError:
        raise Rejected("line", "not_utf8") from None
    except RecursionError:
        raise Rejected("line", "too_deep") from None
    except msgspec.DecodeError:
        raise Rejected("line", "malformed_json") from None


def _hashed(
    events: list[Any], bodies: Sequence[bytes], unnamed: NDArray[np.bool_]
) -> tuple[list[bytes], Hashes]:
    """The bodies to send, and (n,) hashes."""
    if unnamed.all():  # as in nearly every file
        contents = list(map(_ENCODE, events))
        return contents, np.array(list(map(xxh3_64_intdigest, contents)), np.uint64)
    sent, hashes = list(bodies), np.empty(len(events), np.uint64)
    named = np.flatnonzero(~unnamed)
    hashes[named] = [xxh3_64_intdigest(_own_name(events[i])) for i in named.tolist()]
    rest = np.flatnonzero(unnamed)
    contents = list(map(_ENCODE, compress(events, unnamed)))
    hashes[rest] = list(map(xxh3_64_intdigest, contents))
    for index, content in zip(rest.tolist(), contents, strict=True):
        sent[index] = content
    return sent, hashes


def _own_name(event: Any) -> bytes:
    """What an id of a client names: of a person, an item, an action, and a purchase apart from its refund."""
    taken_back = event.action == "purchase" and event.value is not None and event.value < 0
    return _ENCODE_ID(
        (event.user_id, event.anonymous_id, event.event_id, event.item_id, event.action, taken_back)
    )
