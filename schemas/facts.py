"""The delta log: what each batch of a partition means for everything that is a sum over people.

An entry is a header and one columnar section per kind of fact. Every commit appends one, also an
empty one, so entries chain: each `first` is the entry before it's `next`. The stream id of an entry
is ``<next>-0``.

Layout, little-endian: version u2, first i8, next i8, n u4, m u4; then columns. Per fact: ``delta u4``
(offset - first), ``item u8``, ``category u4``, ``time u4`` (s), ``action u1``, ``pairs u1``. Then,
in the order of the facts they belong to, m pairs: ``partner u8``, ``lag u1`` (1: the action before).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

VERSION: Final = 1
FIELD: Final = b"d"
_HEADER: Final = np.dtype(
    [("version", "<u2"), ("first", "<i8"), ("next", "<i8"), ("n", "<u4"), ("m", "<u4")]
)
_COLUMNS: Final = (
    ("delta", "<u4"),
    ("item", "<u8"),
    ("category", "<u4"),
    ("time", "<u4"),
    ("action", "u1"),
    ("pairs", "u1"),
)
_PAIR_COLUMNS: Final = (("partner", "<u8"), ("lag", "u1"))


class Actions(NamedTuple):
    """Facts about actions; n rows, and `partner` and `lag` with sum(pairs) rows."""

    delta: NDArray[np.uint32]
    item: NDArray[np.uint64]
    category: NDArray[np.uint32]
    time: NDArray[np.uint32]
    action: NDArray[np.uint8]
    pairs: NDArray[np.uint8]
    partner: NDArray[np.uint64]
    lag: NDArray[np.uint8]


class Entry(NamedTuple):
    first: int
    next: int
    actions: Actions


def empty() -> Actions:
    return Actions(*(np.empty(0, dtype) for _, dtype in (*_COLUMNS, *_PAIR_COLUMNS)))


def encode(entry: Entry) -> bytes:
    facts = entry.actions
    header = np.array(
        [(VERSION, entry.first, entry.next, len(facts.item), len(facts.partner))], _HEADER
    )
    parts = [header.tobytes()]
    parts += [
        np.asarray(getattr(facts, name), dtype).tobytes()
        for name, dtype in (*_COLUMNS, *_PAIR_COLUMNS)
    ]
    return b"".join(parts)


def decode(value: bytes) -> Entry:
    """Errors: ValueError where the bytes are cut short or of a later version."""
    header = np.frombuffer(value, _HEADER, 1)[0]
    if header["version"] != VERSION:
        raise ValueError(
            f"delta log entry of version {header['version']}, this code reads {VERSION}"
        )
    at, n, m = _HEADER.itemsize, int(header["n"]), int(header["m"])
    columns = []
    for _, dtype, rows in (*((*c, n) for c in _COLUMNS), *((*c, m) for c in _PAIR_COLUMNS)):
        columns.append(np.frombuffer(value, dtype, rows, at))
        at += columns[-1].nbytes
    if at != len(value):
        raise ValueError("delta log entry has bytes left over")
    return Entry(int(header["first"]), int(header["next"]), Actions(*columns))


def since(entry: Entry, position: int) -> Actions:
    """The facts at offsets >= `position`: after a fault batches may be cut elsewhere than before."""
    facts = entry.actions
    if position <= entry.first:
        return facts
    keep = facts.delta >= position - entry.first
    partners = np.repeat(keep, facts.pairs)
    per_fact = [column[keep] for column in facts[:-2]]
    return Actions(*per_fact, facts.partner[partners], facts.lag[partners])  # type: ignore[call-arg,arg-type]
