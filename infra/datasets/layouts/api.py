"""Acts as ``POST /v1/events`` takes them, in any file that an import reads."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from infra.datasets import sources, values
from infra.datasets.layouts.gathered import ActColumns, Gathered
from infra.datasets.layouts.numbering import NO_ID
from infra.datasets.layouts.numbers import NO_TIME
from infra.datasets.rows import Chunk, Fault, Notes
from schemas.actions import code_of
from schemas.events import Scale
from schemas.reject import Rejected, from_validation

_RATE: Final = "rate"


class _Given(msgspec.Struct, gc=False):
    """What of an event is read; the other fields are passed over."""

    item_id: str
    action: str
    user_id: str | None = None
    anonymous_id: str | None = None
    occurred_at: datetime | None = None
    value: float | None = None
    scale: Scale | None = None


_DECODER: Final = msgspec.json.Decoder(_Given)


def read(path: Path, notes: Notes) -> Gathered:
    """Every event. Errors: `NotReadable`, see `sources`."""
    gathered = Gathered(notes, has_time=True)
    source = sources.events(path)
    source.notes = notes
    for chunk in source.chunks():
        _take(chunk, gathered, notes)
    return gathered


def _take(chunk: Chunk, gathered: Gathered, notes: Notes) -> None:
    faults, events, lines = [*chunk.faults], [], []
    for line, body in zip(chunk.lines, chunk.bodies, strict=True):
        try:
            events.append(_decoded(body, notes))
        except Rejected as error:
            faults.append(Fault(line, error.field, error.code))
        else:
            lines.append(line)
    gathered.refuse(faults)
    count = len(events)
    action = np.array([_code(it) for it in events], np.int8)
    acts = ActColumns(
        gathered.people.code(it.user_id or _anonymous(it) for it in events),
        gathered.items.code(it.item_id for it in events),
        np.array([_millis(it.occurred_at, notes) for it in events], np.int64),
        action,
        np.full(count, NO_ID, np.int64),
        np.array([_rating(it) for it in events], np.float32),
    )
    gathered.add(acts, np.array(lines, np.int64), {"other_action": action < 0})


def _decoded(body: bytes, notes: Notes) -> _Given:
    """Errors: `Rejected`."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return _DECODER.decode(values.repair_event(body, notes))
    except msgspec.ValidationError as error:
        raise from_validation(error) from None


def _anonymous(event: _Given) -> str | None:
    """Never that of a user whose id is spelled the same."""
    return f"anonymous {event.anonymous_id}" if event.anonymous_id else None


def _code(event: _Given) -> int:
    negative = False
    if event.value is not None and event.action == _RATE:
        negative = event.scale is not None and event.value < _middle(event.scale)
    elif event.value is not None and event.action == "purchase":
        negative = event.value < 0
    try:
        return code_of(event.action, negative)
    except KeyError:
        return -1


def _middle(scale: Scale) -> float:
    return (scale.min + scale.max) / 2 if scale.middle is None else scale.middle


def _rating(event: _Given) -> float:
    """Of a rating its value; NaN of other events."""
    return event.value if event.value is not None and event.action == _RATE else math.nan


def _millis(at: datetime | None, notes: Notes) -> int:
    if at is None:
        return NO_TIME
    if at.tzinfo is None:
        notes.add("times_without_offset", "times without an offset were read as UTC")
        at = at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1_000_000) // 1000
