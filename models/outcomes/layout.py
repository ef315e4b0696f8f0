"""The bytes of a person's slates, as they are stored and as the compiled fold changes them (`layout.c`).

A head (`_HEAD`): version, flags, how many slates, placements, items, units, sets of units and touched slots
follow, newest, since. Then columns, little-endian, those of slates by (at, id) ascending:

- items u8, placements u4: each once, in the order in which the slates name them
- of each slate: id u8; newest - at u4; index of its placement u1; number of items u1; state u1 of all its
  items, 0: they differ; explored + 1 u1; number of units u1
- the slates' items: their indices, u1, or u2 where there are more than 256 items
- the states u1 of the items of slates where they differ
- the slates' units: their indices u2
- units (`_UNIT`): experiment, variant, version, counts
- touched slots, 24 B each (`models.outcomes.touched`)
- of each set of units their number u1; then the indices u2
- msgpack of what few people have (`REST`)

An item that many slates hold is stored once, and one account has one form. What does not fit (`write`) is
msgpack as a whole (`WHOLE`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, count
from struct import Struct, error, pack, unpack
from typing import Any, Final, NamedTuple

import numpy as np

from models.kernels.loading import kernel

VERSION: Final = 4
OTHERS: Final = 1
"""Bit of the flags: a record of a slate may concern more than the account's own slates. Outcomes wait, or a
guest has slates, or it is the account of a linked anonymous id."""
REST: Final = 2
"""Bit of the flags: msgpack follows."""
TOUCHED: Final = 4
"""Bit of the flags: there are touched slots."""
LINKS: Final = 8
"""Bit of the flags: there are links, of which readers know the first (`models.outcomes.links.view`)."""
WHOLE: Final = 16
"""The flags where the account is msgpack: that follows."""
_FLAGS: Final = OTHERS | REST | TOUCHED | LINKS
TOUCHED_SIZE: Final = 24
_HEAD: Final = Struct("<BBBBHHHHQQ")
_UNIT: Final = Struct("<IIH6H")
_MAX_NARROW: Final = 256
_MAX_SLOTS: Final = 2048
"""Of the kernel."""
UNREADABLE: Final = "a person's open slates cannot be read: rebuild"
SlateFields = tuple[int, int, int, bytes, bytearray, int, tuple[int, ...]]
"""The fields of `models.outcomes.open_slates.OpenSlate`."""
UnitFields = tuple[int, int, int, tuple[int, ...]]
"""The fields of `models.outcomes.open_slates.Unit`."""


class Plain(NamedTuple):
    """An account as it is stored. `slates` by (at, id) ascending; `rest`: msgpack, b"": none; `others`,
    `links`: whether the flags `OTHERS` and `LINKS` are set."""

    newest: int
    since: int
    slates: Sequence[SlateFields]
    units: Sequence[UnitFields]
    touched: bytes
    sets: Sequence[tuple[int, ...]]
    rest: bytes
    others: bool
    links: bool


def write(held: Plain) -> bytes | None:
    """The bytes of an account; None where a number does not fit its column."""
    try:
        return _write(held)
    except (error, ValueError):
        return None


def _write(held: Plain) -> bytes:
    newest, since, slates, units, touched, sets, rest, others, links = held
    columns: Any = zip(*slates, strict=True) if slates else ((),) * 7
    ids, at, placements, named, states, explored, its_units = columns
    n = len(slates)
    if [8 * len(its) for its in states] != list(map(len, named)) or len(touched) % TOUCHED_SIZE:
        raise ValueError(UNREADABLE)
    slots = b"".join(named)
    items, indices = indexed(slots)
    n_items = len(items) // 8
    names = dict(zip(dict.fromkeys(placements), count(), strict=False))
    same = [its[0] if its and its.count(its[:1]) == len(its) else 0 for its in states]
    flags = OTHERS * others | REST * bool(rest) | TOUCHED * bool(touched) | LINKS * links
    head = _HEAD.pack(
        VERSION, flags, n, len(names), n_items, len(units), len(sets),
        len(touched) // TOUCHED_SIZE, newest, since,
    )  # fmt: skip
    return b"".join(
        [
            head,
            items,
            pack(f"<{len(names)}I", *names),
            pack(f"<{n}Q", *ids),
            pack(f"<{n}I", *[newest - it for it in at]),
            bytes([names[it] for it in placements]),
            bytes(map(len, states)),
            bytes(same),
            bytes([it + 1 for it in explored]),
            bytes(map(len, its_units)),
            indices[::2] if n_items <= _MAX_NARROW else indices,
            *[its for its, one in zip(states, same, strict=True) if not one],
            _pack_flat(its_units),
            *[_UNIT.pack(it[0], it[2], it[1], *it[3]) for it in units],
            touched,
            bytes(map(len, sets)),
            _pack_flat(sets),
            rest,
        ]
    )


def indexed(slots: bytes) -> tuple[bytes, bytes]:
    """Each item u8 of `slots` once, in their order, and of each slot the index u2 of its item."""
    n = len(slots) // 8
    if kernel is None or not 0 < n <= _MAX_SLOTS:
        return indexed_by_python(slots)
    names, indices = bytearray(8 * n), bytearray(2 * n)
    name_at, index_at = (kernel.ffi.from_buffer("uint8_t[]", it) for it in (names, indices))
    found = kernel.lib.layout_name(slots, n, name_at, index_at)
    return bytes(names[: 8 * found]), bytes(indices)


def indexed_by_python(slots: bytes) -> tuple[bytes, bytes]:
    items = unpack(f"<{len(slots) // 8}Q", slots)
    places = dict(zip(dict.fromkeys(items), count(), strict=False))
    indices = map(places.__getitem__, items)
    return pack(f"<{len(places)}Q", *places), pack(f"<{len(items)}H", *indices)


def _pack_flat(sets: Sequence[Sequence[int]]) -> bytes:
    flat = list(chain.from_iterable(sets))
    return pack(f"<{len(flat)}H", *flat)


def read(blob: bytes) -> Plain:
    """The opposite of `write`. Errors: ValueError for bytes that it does not write."""
    try:
        return _read(blob)
    except (IndexError, error):
        raise ValueError(UNREADABLE) from None


class _Cursor:
    """Takes columns, one after the other. Errors: `struct.error` past the end."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, size: int) -> bytes:
        taken = self.data[self.at : self.at + size]
        if len(taken) < size:
            raise ValueError(UNREADABLE)
        self.at += size
        return taken

    def numbers(self, kind: str, size: int, n: int) -> tuple[int, ...]:
        return unpack(f"<{n}{kind}", self.take(size * n))


def _read(blob: bytes) -> Plain:
    version, flags, n, n_names, n_items, n_units, n_sets, n_touched, newest, since = (
        _HEAD.unpack_from(blob)
    )
    if version != VERSION or flags & ~_FLAGS:
        raise ValueError(UNREADABLE)
    held = _Cursor(blob, _HEAD.size)
    items = np.frombuffer(held.take(8 * n_items), "<u8")
    names = held.numbers("I", 4, n_names)
    ids, back = held.numbers("Q", 8, n), held.numbers("I", 4, n)
    placements, sizes, same, explored, n_of_units = (held.take(n) for _ in range(5))
    wide = 1 + (n_items > _MAX_NARROW)
    indices = np.frombuffer(held.take(wide * sum(sizes)), "u1" if wide == 1 else "<u2")
    named = items[indices].tobytes()
    states = [
        bytearray((one,)) * size if one else bytearray(held.take(size))
        for one, size in zip(same, sizes, strict=True)
    ]
    units = _take_sets(held, n_of_units)
    slates: list[SlateFields] = []
    end = 0
    for i in range(n):
        first, end = end, end + 8 * sizes[i]
        slates.append(
            (
                ids[i], newest - back[i], names[placements[i]], named[first:end], states[i],
                explored[i] - 1, units[i],
            )
        )  # fmt: skip
    kept = _UNIT.iter_unpack(held.take(_UNIT.size * n_units))
    known = [(it[0], it[2], it[1], it[3:]) for it in kept]
    touched = held.take(TOUCHED_SIZE * n_touched)
    sets = _take_sets(held, held.take(n_sets))
    rest = blob[held.at :]
    if bool(rest) != bool(flags & REST) or bool(touched) != bool(flags & TOUCHED):
        raise ValueError(UNREADABLE)
    others, links = bool(flags & OTHERS), bool(flags & LINKS)
    return Plain(newest, since, slates, known, touched, sets, rest, others, links)


def _take_sets(held: _Cursor, sizes: Iterable[int]) -> list[tuple[int, ...]]:
    return [held.numbers("H", 2, size) if size else () for size in sizes]
