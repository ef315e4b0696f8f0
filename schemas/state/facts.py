"""The delta log: what each batch of a partition adds to the sums over people.

An entry is a header and one columnar section per kind of fact. Every commit appends an entry, even an
empty one, so entries chain: `first` equals `next` of the entry before. The stream id is ``<next>-0``.

Layout, little-endian: version u2, first i8, next i8, then the number of rows of each section (u4, in the
order of `_SECTIONS`), then the columns of each section, in the same order. A fact's `delta` is its record's
offset - first. Pairs are in the order of their actions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.version import Upgrades, upgrade

VERSION: Final = 4
FIELD: Final = b"d"
STATES: Final = ("served", "displayed", "clicked", "converted", "last_click", "last_view")
"""Of a slot, each counted once per (slate, item); a fact's `state` is an index into it. A purchase that names
the slate made it `converted`; one that names none is the conversion of the slot that the person clicked
last, or else saw last."""
ATTRIBUTION: Final = {"direct": "converted", "last_click": "last_click", "last_view": "last_view"}
"""How a conversion came to its slot -> its state. A slot has at most one of these states."""
UNKNOWN: Final = 1
"""Bit of a fact's `flags`: the edge did not know the item."""
IMPORTED: Final = 2
"""Bit of a fact's `flags`: the action was imported."""
BACK: Final = 4
"""Bit of a fact's `flags`: it takes back an earlier fact, of the same item, time and action."""
SAME_SESSION: Final = 0x80
"""Bit of a pair's `lag`: both actions are of one session."""
LAG: Final = 0x7F
"""The bits of a pair's `lag` with the lag itself."""


class Actions(NamedTuple):
    """Facts about actions; n rows, and `partner` and `lag` with sum(pairs) rows."""

    delta: NDArray[np.uint32]
    item: NDArray[np.uint64]
    time: NDArray[np.uint32]
    action: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    """Bits `UNKNOWN`, `IMPORTED`, `BACK`."""
    pairs: NDArray[np.uint8]
    partner: NDArray[np.uint64]
    lag: NDArray[np.uint8]
    """Bits `LAG` (1: the action just before) and `SAME_SESSION`. The pairs of an action that are within its
    session come first."""


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
    sign: NDArray[np.int8]
    """1: the slot came into the state; -1: it left the state again."""
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
    """(n, 6), slots by `STATES`. All 0: the unit is new."""
    after: NDArray[np.uint32]


class Money(NamedTuple):
    """Facts of purchases that name a currency, and of those taken back."""

    delta: NDArray[np.uint32]
    item: NDArray[np.uint64]
    currency: NDArray[np.uint32]
    """`currency_code` of its ISO 4217 name."""
    amount: NDArray[np.int64]
    """Minor units, below 0 where a purchase is taken back."""
    quantity: NDArray[np.int32]
    """Likewise."""
    purchases: NDArray[np.int8]
    """1: a purchase; -1: one was taken back."""


class Days(NamedTuple):
    """At this record the partition's newest record time came into another UTC day."""

    delta: NDArray[np.uint32]
    day: NDArray[np.uint16]
    """Days since 1970-01-01."""


class Listings(NamedTuple):
    """From this record on the catalogue has the item (`schemas.events.Listed`)."""

    delta: NDArray[np.uint32]
    item: NDArray[np.uint64]


_Columns = tuple[tuple[str, str, int], ...]
"""(name, dtype, width) of each column."""
_ACTIONS: Final[_Columns] = (
    ("delta", "<u4", 1),
    ("item", "<u8", 1),
    ("time", "<u4", 1),
    ("action", "u1", 1),
    ("flags", "u1", 1),
    ("pairs", "u1", 1),
)
_PAIRS: Final[_Columns] = (("partner", "<u8", 1), ("lag", "u1", 1))
_ARMS: Final[_Columns] = (
    ("delta", "<u4", 1),
    ("placement", "<u4", 1),
    ("item", "<u8", 1),
    ("state", "u1", 1),
    ("explored", "u1", 1),
    ("sign", "i1", 1),
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
_MONEY: Final[_Columns] = (
    ("delta", "<u4", 1),
    ("item", "<u8", 1),
    ("currency", "<u4", 1),
    ("amount", "<i8", 1),
    ("quantity", "<i4", 1),
    ("purchases", "i1", 1),
)
_DAYS: Final[_Columns] = (("delta", "<u4", 1), ("day", "<u2", 1))
_LISTINGS: Final[_Columns] = (("delta", "<u4", 1), ("item", "<u8", 1))
_SECTIONS: Final = (_ACTIONS, _PAIRS, _ARMS, _MOMENTS, _MONEY, _DAYS, _LISTINGS)
_HEADER: Final = np.dtype(
    [("version", "<u2"), ("first", "<i8"), ("next", "<i8"), ("rows", "<u4", (len(_SECTIONS),))]
)
_PACKED_HEADER: Final = struct.Struct(f"<Hqq{len(_SECTIONS)}I")
_ROW_BYTES: Final = np.array(
    [sum(np.dtype(dtype).itemsize * width for _, dtype, width in its) for its in _SECTIONS]
)
"""(sections,) bytes of a row."""
_MAX_DELTA: Final = 2**32 - 1


def _empty(columns: _Columns) -> list[NDArray[Any]]:
    return [np.empty(0 if width == 1 else (0, width), dtype) for _, dtype, width in columns]


NO_ACTIONS: Final = Actions(*_empty(_ACTIONS), *_empty(_PAIRS))
NO_ARMS: Final = Arms(*_empty(_ARMS))
NO_MOMENTS: Final = Moments(*_empty(_MOMENTS))
NO_MONEY: Final = Money(*_empty(_MONEY))
NO_DAYS: Final = Days(*_empty(_DAYS))
NO_LISTINGS: Final = Listings(*_empty(_LISTINGS))


class Delta(NamedTuple):
    """Facts of the records at offsets first <= offset < next of one partition."""

    first: int
    next: int
    actions: Actions = NO_ACTIONS
    arms: Arms = NO_ARMS
    moments: Moments = NO_MOMENTS
    money: Money = NO_MONEY
    days: Days = NO_DAYS
    listings: Listings = NO_LISTINGS


_NOTHING: Final = (
    NO_ACTIONS,
    NO_ACTIONS,
    NO_ARMS,
    NO_MOMENTS,
    NO_MONEY,
    NO_DAYS,
    NO_LISTINGS,
)
"""Of each section, the facts that are none."""
_DTYPES: Final = [np.dtype(dtype) for _, dtype, _ in (*_ACTIONS, *_PAIRS)]
_ACTION_BYTES: Final = [np.dtype(dtype).itemsize for _, dtype, _ in _ACTIONS]
_PARTNER_BYTES: Final = 8
_NO_OTHERS: Final = [0] * (len(_SECTIONS) - 2)
FEW: Final = 40
"""Facts of so many or fewer are packed sooner one by one."""


def currency_code(currency: str) -> int:
    """The three letters of ISO 4217 as a number.

    >>> currency_code("EUR").to_bytes(3, "little")
    b'EUR'
    """
    return int.from_bytes(currency.encode(), "little")


def currency_name(code: int) -> str:
    """The opposite of `currency_code`.

    >>> currency_name(currency_code("EUR"))
    'EUR'
    """
    return code.to_bytes(4, "little").rstrip(b"\0").decode("ascii", "replace")


_FIELDS: Final = ("actions", "pairs", *Delta._fields[3:])
"""The field of each section; pairs lie with their actions."""


class Packed(NamedTuple):
    """The `n` facts of one section as they are stored: its columns, one after the other."""

    n: int
    columns: bytes


class PackedActions(NamedTuple):
    """`Actions` as they are stored: `n` facts, with `pairs_n` pairs."""

    n: int
    columns: bytes
    pairs_n: int
    pairs: bytes

    def sections(self) -> dict[str, Packed]:
        """By name, for `encode`."""
        return {"actions": Packed(*self[:2]), "pairs": Packed(*self[2:])}

    def whole(self) -> Actions:
        its = self.sections()
        return Actions(*_columns_in(_ACTIONS, its["actions"]), *_columns_in(_PAIRS, its["pairs"]))


def _columns_in(columns: _Columns, packed: Packed) -> Iterator[NDArray[Any]]:
    at = 0
    for _, dtype, width in columns:
        column = np.frombuffer(packed.columns, dtype, packed.n * width, at)
        yield column
        at += column.nbytes


def packed_actions(
    actions: Actions, stops: Sequence[int], pair_stops: Sequence[int]
) -> list[PackedActions]:
    """The facts of several partitions, which lie side by side, each partition's as they are stored. `stops`,
    `pair_stops`: behind the last fact and the last pair of each."""
    sizes = _ACTION_BYTES
    whole = [np.asarray(it, dtype).tobytes() for it, dtype in zip(actions, _DTYPES, strict=True)]
    found, start, pair = [], 0, 0
    for stop, pair_stop in zip(stops, pair_stops, strict=True):
        cut = [it[start * n : stop * n] for it, n in zip(whole[:-2], sizes, strict=True)]
        (partner, lag), m = whole[-2:], _PARTNER_BYTES
        pairs = partner[pair * m : pair_stop * m] + lag[pair:pair_stop]
        found.append(PackedActions(stop - start, b"".join(cut), pair_stop - pair, pairs))
        start, pair = stop, pair_stop
    return found


def packed_few(
    actions: Actions, stops: Sequence[int], pair_stops: Sequence[int]
) -> list[PackedActions]:
    """`packed_actions`, which takes longer where there are few facts."""
    delta, item, time, action, flags, pairs = [it.tolist() for it in actions[:-2]]
    partner, lag = actions.partner.tobytes(), actions.lag.tobytes()
    found, start, pair, m = [], 0, 0, _PARTNER_BYTES
    for stop, pair_stop in zip(stops, pair_stops, strict=True):
        n = stop - start
        columns = _struct_of(n).pack(
            *(*delta[start:stop], *item[start:stop], *time[start:stop]),
            *(*action[start:stop], *flags[start:stop], *pairs[start:stop]),
        )
        its = partner[pair * m : pair_stop * m] + lag[pair:pair_stop]
        found.append(PackedActions(n, columns, pair_stop - pair, its))
        start, pair = stop, pair_stop
    return found


@lru_cache
def _struct_of(n: int) -> struct.Struct:
    return struct.Struct(f"<{n}I{n}Q{n}I{3 * n}B")


def encode_plain(first: int, next_: int, acted: PackedActions) -> bytes:
    """As `encode`, of an entry that has facts about actions alone."""
    n, columns, pairs_n, pairs = acted
    head = _PACKED_HEADER.pack(VERSION, first, next_, n, pairs_n, *_NO_OTHERS)
    return head + columns + pairs


NONE_PACKED: Final[Mapping[str, Packed]] = MappingProxyType({})


def encode(entry: Delta, packed: Mapping[str, Packed] = NONE_PACKED) -> bytes:
    """The entry as it is stored; `packed`: sections in place of the entry's own, by its field."""
    rows, chunks = [], [b""]
    held = (entry.actions, *entry[2:])
    for name, facts, columns, nothing in zip(_FIELDS, held, _SECTIONS, _NOTHING, strict=True):
        if (whole := packed.get(name)) is not None:
            rows.append(whole.n)
            chunks.append(whole.columns)
            continue
        if facts is nothing:
            rows.append(0)
            continue
        n = len(getattr(facts, columns[0][0]))
        rows.append(n)
        if n:  # most sections of most entries are empty
            chunks += [np.asarray(getattr(facts, it[0]), it[1]).tobytes() for it in columns]
    chunks[0] = _PACKED_HEADER.pack(VERSION, entry.first, entry.next, *rows)
    return b"".join(chunks)


UPGRADES: Final[Upgrades[bytes]] = {}
"""Entry as stored by the version before -> the same entry in this version. None: its facts lack what a
fact means since, and the log is folded again."""


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
    return _delta(int(header["first"]), int(header["next"]), sections)


def _delta(first: int, next_: int, sections: list[list[NDArray[Any]]]) -> Delta:
    actions, pairs, arms, moments, money, days, listings = sections
    return Delta(
        first,
        next_,
        Actions(*actions, *pairs),
        Arms(*arms),
        Moments(*moments),
        Money(*money),
        Days(*days),
        Listings(*listings),
    )


def decode_run(values: Sequence[bytes]) -> tuple[Delta, NDArray[np.int64]] | None:
    """Entries that follow one another as one, and (n,) the `next` of each. None where one does not begin
    where the one before nexts, or cannot be decoded: `decode` says why."""
    heads = b"".join([value[: _HEADER.itemsize] for value in values])
    if not values or len(heads) != len(values) * _HEADER.itemsize:
        return None
    header = np.frombuffer(heads, _HEADER)
    rows, first, nexts = header["rows"].astype(np.int64), header["first"], header["next"]
    sizes = _HEADER.itemsize + rows @ _ROW_BYTES
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    chained = (first[1:] == nexts[:-1]).all() and (header["version"] == VERSION).all()
    if not chained or (sizes != lengths).any() or nexts[-1] - first[0] > _MAX_DELTA:
        return None
    at, sections = np.full(len(values), _HEADER.itemsize), list[list[NDArray[Any]]]()
    for columns, count in zip(_SECTIONS, rows.T, strict=True):
        sections.append([])
        some = count.any()
        for name, dtype, width in columns:
            stop = at + count * (np.dtype(dtype).itemsize * width) if some else at
            cuts = zip(values, at.tolist(), stop.tolist(), strict=True) if some else ()
            column = np.frombuffer(b"".join([value[i:j] for value, i, j in cuts]), dtype)
            if name == "delta" and some:
                column = column + np.repeat(first - first[0], count).astype(np.uint32)
            sections[-1].append(column if width == 1 else column.reshape(-1, width))
            at = stop
    return _delta(int(first[0]), int(nexts[-1]), sections), nexts.astype(np.int64)


def where(actions: Actions, keep: NDArray[np.bool_]) -> Actions:
    """The facts under the mask `keep` (n,), with their pairs."""
    if keep.all():
        return actions
    partners = np.repeat(keep, actions.pairs)
    return Actions(
        *(column[keep] for column in actions[:-2]),  # type: ignore[arg-type]
        *(column[partners] for column in actions[-2:]),
    )


def chosen(actions: Actions, order: NDArray[np.int64]) -> Actions:
    """The facts number `order` (k,), in that order, with their pairs."""
    pairs = actions.pairs.astype(np.int64)
    start, taken = np.cumsum(pairs) - pairs, pairs[order]
    stop = np.cumsum(taken)
    of_pairs = np.repeat(start[order] - (stop - taken), taken) + np.arange(taken.sum())
    return Actions(
        *(column[order] for column in actions[:-2]),  # type: ignore[arg-type]
        *(column[of_pairs] for column in actions[-2:]),
    )


def since(entry: Delta, position: int) -> Delta:
    """`entry` without the facts at offsets < `position`: after a fault, batches may be split differently."""
    if position <= entry.first:
        return entry
    cut = position - entry.first
    actions = where(entry.actions, entry.actions.delta >= cut)
    rest: Any = [_since(facts, cut) for facts in entry[3:]]
    return Delta(entry.first, entry.next, actions, *rest)


def _since(facts: Any, cut: int) -> Any:
    keep = facts.delta >= cut
    return type(facts)(*(column[keep] for column in facts))
