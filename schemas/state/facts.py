"""The delta log: what each batch of a partition adds to the sums over people.

An entry is a header and one columnar section per kind of fact. Every commit appends an entry, even an
empty one, so entries chain: `first` equals `next` of the entry before. The stream id is ``<next>-0``.

Layout, little-endian: version u2, first i8, next i8, then the number of rows of each section (u4: actions,
pairs, arms, moments), then the columns of each section, in the order of `_SECTIONS`. A fact's `delta` is
its record's offset - first. Pairs are in the order of their actions.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.version import Upgrades, upgrade

VERSION: Final = 2
FIELD: Final = b"d"
STATES: Final = ("served", "displayed", "clicked", "converted")
"""Of a slot, each counted once per (slate, item); a fact's `state` is an index into it."""
_HEADER: Final = np.dtype(
    [("version", "<u2"), ("first", "<i8"), ("next", "<i8"), ("rows", "<u4", (4,))]
)
_HEADER_1: Final = np.dtype(
    [("version", "<u2"), ("first", "<i8"), ("next", "<i8"), ("n", "<u4"), ("m", "<u4")]
)


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
    """1: the action just before."""


class Arms(NamedTuple):
    """Facts of arms (placement, item): a slot of a slate came into a state."""

    delta: NDArray[np.uint32]
    placement: NDArray[np.uint32]
    """`schemas.identity.category_hash` of the placement's name."""
    item: NDArray[np.uint64]
    state: NDArray[np.uint8]
    """Index into `STATES`."""
    explored: NDArray[np.uint8]
    """1: exploration had drawn it."""
    reward: NDArray[np.float32]
    """In 0 to 1: the worth of a click, else 0."""


class Moments(NamedTuple):
    """Facts of experiments: the counts of one unit (a person), before and after a record.

    Counts instead of differences: the roll-up adds f(after) - f(before) for each sum f that it keeps, and
    sums of integers are exact.
    """

    delta: NDArray[np.uint32]
    experiment: NDArray[np.uint32]
    """`schemas.identity.category_hash` of the experiment's id."""
    version: NDArray[np.uint16]
    variant: NDArray[np.uint32]
    """`schemas.identity.category_hash` of the variant's name."""
    before: NDArray[np.uint32]
    """(n, 4), by `STATES`: slots served, displayed, clicked, converted. All 0: the unit is new."""
    after: NDArray[np.uint32]


_Columns = tuple[tuple[str, str, int], ...]
"""(name, dtype, width) of each column."""
_ACTIONS: Final[_Columns] = (
    ("delta", "<u4", 1),
    ("item", "<u8", 1),
    ("category", "<u4", 1),
    ("time", "<u4", 1),
    ("action", "u1", 1),
    ("pairs", "u1", 1),
)
_PAIRS: Final[_Columns] = (("partner", "<u8", 1), ("lag", "u1", 1))
_ARMS: Final[_Columns] = (
    ("delta", "<u4", 1),
    ("placement", "<u4", 1),
    ("item", "<u8", 1),
    ("state", "u1", 1),
    ("explored", "u1", 1),
    ("reward", "<f4", 1),
)
_MOMENTS: Final[_Columns] = (
    ("delta", "<u4", 1),
    ("experiment", "<u4", 1),
    ("version", "<u2", 1),
    ("variant", "<u4", 1),
    ("before", "<u4", len(STATES)),
    ("after", "<u4", len(STATES)),
)
_SECTIONS: Final = (_ACTIONS, _PAIRS, _ARMS, _MOMENTS)


def _empty(columns: _Columns) -> list[NDArray[Any]]:
    return [np.empty(0 if width == 1 else (0, width), dtype) for _, dtype, width in columns]


NO_ACTIONS: Final = Actions(*_empty(_ACTIONS), *_empty(_PAIRS))
NO_ARMS: Final = Arms(*_empty(_ARMS))
NO_MOMENTS: Final = Moments(*_empty(_MOMENTS))


class Delta(NamedTuple):
    """Facts of the records at offsets first <= offset < next of one partition."""

    first: int
    next: int
    actions: Actions = NO_ACTIONS
    arms: Arms = NO_ARMS
    moments: Moments = NO_MOMENTS


def encode(entry: Delta) -> bytes:
    held: tuple[Any, ...] = (entry.actions, entry.actions, entry.arms, entry.moments)
    rows = [
        len(getattr(facts, columns[0][0])) for facts, columns in zip(held, _SECTIONS, strict=True)
    ]
    chunks = [np.array([(VERSION, entry.first, entry.next, rows)], _HEADER).tobytes()]
    chunks += [
        np.asarray(getattr(facts, name), dtype).tobytes()
        for facts, columns in zip(held, _SECTIONS, strict=True)
        for name, dtype, _ in columns
    ]
    return b"".join(chunks)


def _with_slates(value: bytes) -> bytes:
    """Version 1 had actions and pairs alone: the same columns behind a shorter header."""
    header = np.frombuffer(value, _HEADER_1, 1)[0]
    rows = [header["n"], header["m"], 0, 0]
    upgraded = np.array([(2, header["first"], header["next"], rows)], _HEADER)
    return upgraded.tobytes() + value[_HEADER_1.itemsize :]


UPGRADES: Final[Upgrades[bytes]] = {1: _with_slates}
"""Entry as stored by the version before -> the same entry in this version."""


def decode(value: bytes) -> Delta:
    """The entry in `value`, of this version or the one before. Errors: ValueError for bytes that are cut
    short, or of another version."""
    version = int.from_bytes(value[:2], "little")
    value = upgrade("an entry of the delta log", version, VERSION, UPGRADES, value)
    header = np.frombuffer(value, _HEADER, 1)[0]
    at = _HEADER.itemsize
    sections: list[list[NDArray[Any]]] = []
    for columns, rows in zip(_SECTIONS, header["rows"].tolist(), strict=True):
        sections.append([])
        for _, dtype, width in columns:
            column = np.frombuffer(value, dtype, rows * width, at)
            sections[-1].append(column if width == 1 else column.reshape(rows, width))
            at += column.nbytes
    if at != len(value):
        raise ValueError("the entry of the delta log is longer than its header says")
    actions, pairs, arms, moments = sections
    return Delta(
        int(header["first"]),
        int(header["next"]),
        Actions(*actions, *pairs),
        Arms(*arms),
        Moments(*moments),
    )


def since(entry: Delta, position: int) -> Delta:
    """`entry` without the facts at offsets < `position`: after a fault, batches may be split differently."""
    if position <= entry.first:
        return entry
    cut = position - entry.first
    keep = entry.actions.delta >= cut
    partners = np.repeat(keep, entry.actions.pairs)
    arms, moments = entry.arms.delta >= cut, entry.moments.delta >= cut
    return entry._replace(
        actions=Actions(
            *(column[keep] for column in entry.actions[:-2]),  # type: ignore[arg-type]
            *(column[partners] for column in entry.actions[-2:]),
        ),
        arms=Arms(*(column[arms] for column in entry.arms)),  # type: ignore[arg-type]
        moments=Moments(*(column[moments] for column in entry.moments)),  # type: ignore[arg-type]
    )
