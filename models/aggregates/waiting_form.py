"""The stored form of what waits: columns, those that repeat themselves compressed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.aggregates.numbers import DenseNumbers
from models.aggregates.waiting import Limits, WaitingFacts
from models.aggregates.waiting_day import WaitingDay
from schemas.state.tables import WINDOWS

_COLUMNS: Final = {
    name: (kind, of)
    for of, columns in (
        ("ids", (("ids", "<u8"), ("sums", "<f8"), ("counted", "?"))),
        ("facts", (("item", "<u4"), ("time", "<u4"), ("pairs", "u1"))),
        ("partners", (("partner", "<u4"), ("lag", "u1"))),
    )
    for name, kind in columns
}
"""Columns of a day: their dtype, and which rows they have."""
_PLAIN: Final = ("ids", "sums")
"""Columns of random numbers: nothing compresses them."""
_DAY: Final = np.dtype(
    [
        ("partition", "<i4"),
        ("day", "<i4"),
        ("counts", "<i8", (4,)),
        ("ids", "<i8"),
        ("facts", "<i8"),
        ("partners", "<i8"),
    ]
)
Columns = dict[str, NDArray[Any]]


def dump_waiting(waiting: WaitingFacts) -> Columns:
    """As `load_waiting` takes it."""
    days = [(p, n, day) for p, of in enumerate(waiting.days) for n, day in sorted(of.items())]
    columns = [day.columns() for _, _, day in days]
    heads = [
        (p, n, day.counts, len(it["ids"]), len(it["item"]), len(it["partner"]))
        for (p, n, day), it in zip(days, columns, strict=True)
    ]
    held: Columns = {
        "limits": np.array(waiting.limits, np.int64),
        "over_limit": np.array(waiting.over_limit, np.int64),
        "newest": np.array(waiting.newest, np.int64),
        "listed": _packed(np.packbits(waiting.listed.all())),
        "days": np.array(heads, _DAY),
    }
    for name, (kind, _) in _COLUMNS.items():
        joined = np.concatenate([np.empty(0, kind), *(it[name].ravel() for it in columns)])
        held[name] = joined if name in _PLAIN else _packed(joined)
    return held


def load_waiting(items: DenseNumbers, held: Mapping[str, NDArray[Any]]) -> WaitingFacts:
    """What was dumped. Errors: ValueError, `zlib.error`."""
    newest = held["newest"].tolist()
    waiting = WaitingFacts(items, len(newest), Limits(*held["limits"].tolist()))
    waiting.newest, waiting.over_limit = newest, held["over_limit"].tolist()
    bits = np.unpackbits(_unpacked(held["listed"], "u1"), count=len(items) * len(newest))
    waiting.listed.load(bits.reshape(len(items), len(newest)).astype(np.bool_))
    columns = {
        name: held[name] if name in _PLAIN else _unpacked(held[name], kind)
        for name, (kind, _) in _COLUMNS.items()
    }
    columns["sums"] = columns["sums"].reshape(-1, len(WINDOWS))
    at = dict.fromkeys(("ids", "facts", "partners"), 0)
    for head in held["days"]:
        upto = {rows: at[rows] + int(head[rows]) for rows in at}
        mine = {name: columns[name][at[of] : upto[of]].copy() for name, (_, of) in _COLUMNS.items()}
        partition, day = int(head["partition"]), int(head["day"])
        waiting.days[partition][day] = WaitingDay.of(head["counts"].tolist(), mine)
        at = upto
    return waiting


def _packed(column: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.compress(column.tobytes(), 1), np.uint8)


def _unpacked(packed: NDArray[np.uint8], kind: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(packed.tobytes()), kind)
