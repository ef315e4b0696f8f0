"""The fold of actions by the kernel: features with a C function are folded by it, the others by numpy on the
same columns, in the registry's order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64
from models.features import ring, window
from models.features.columns import ActionColumns, Columns, Folded
from models.features.overflow import Overflow
from models.features.registry import FEATURES, ROW, VERSION, Feature
from models.kernels.loading import kernel
from schemas.actions import RECENT
from schemas.state.facts import LAG, SAME_SESSION

_GIVEN: Final = (
    ("slot", "int64_t[]"), ("item", "uint64_t[]"), ("category", "uint32_t[]"), ("time", "int64_t[]"),
    ("received", "int64_t[]"), ("action", "uint8_t[]"), ("session", "uint64_t[]"),
    ("identity", "uint32_t[]"),
)  # fmt: skip
"""The columns that the kernel reads."""
Block = NDArray[np.uint8]
Group = Callable[[I64, I64, int, Any], Columns]
_CODES: Final = np.zeros((2, 256), np.uint8)
_CODES[:, : len(RECENT)] = RECENT, window.INFORMATIVE[: len(RECENT)]
_OFFSETS: Final = {name: offset for name, (_, offset, *_) in (ROW.fields or {}).items()}
_MAX_FIELDS: Final = 8
_RAW: Final = np.dtype((np.void, ROW.itemsize))
_LAYOUT: Final = np.array(
    [ROW.itemsize, *(_OFFSETS[name] for name in ("version", "flags", "n", "ring", "days"))],
    np.int32,
)
_FILL: Final = {"fold_session", "fold_ring"}
"""The functions that make what an `Acted` consists of."""


class Made(NamedTuple):
    """`struct made` of models/kernels/act.h."""

    people_n: int
    facts_n: int
    pairs_n: int
    evicted_n: int
    changes_n: int
    people: int
    recent_changed: int
    verdict: int
    at: int
    pairs: int
    partner: int
    lag: int
    evicted_at: int
    evicted: int
    late: int
    changes: int
    added: int
    order: int
    in_order: int
    session_rank: int
    repeats: int
    met: int
    end: int


class Runs:
    """Features that follow each other and are folded by one call: functions, their fields, or None and the
    feature that numpy folds."""

    def __init__(self, features: Sequence[Feature]) -> None:
        assert kernel is not None
        lib, ffi = kernel
        self.by_numpy = tuple(it.name for it in features if not it.kernel)
        self.complete = {it.kernel for it in features} >= _FILL
        self.calls: list[tuple[Any, Any, int, Feature | None]] = []
        for compiled, some in groupby(features, lambda it: bool(it.kernel)):
            run = list(some)
            if compiled:
                functions = [ffi.cast("void *", ffi.addressof(lib, it.kernel)) for it in run]
                at = [offset for it in run for offset in _fields_of(it)]
                self.calls.append(
                    (ffi.new("void *[]", functions), ffi.new("int32_t[]", at), len(run), None)
                )
            else:
                self.calls += [(None, None, 1, it) for it in run]


def _fields_of(feature: Feature) -> list[int]:
    offsets = [_OFFSETS[field[0]] for field in feature.fields]
    return offsets + [0] * (_MAX_FIELDS - len(offsets))


if kernel is not None:
    _lib, _ffi = kernel.lib, kernel.ffi
    _buffer = _ffi.from_buffer
    _layout, _codes = _buffer("int32_t[]", _LAYOUT), _buffer("uint8_t[]", _CODES)
    RUNS: Runs | None = Runs(FEATURES)
else:
    RUNS = None


def features_by_numpy() -> int:
    """How many features numpy folds."""
    return len(FEATURES if RUNS is None or not RUNS.complete else RUNS.by_numpy)


def act(
    rows: NDArray[np.void],
    columns: ActionColumns,
    overflow: dict[int, Overflow],
    runs: Runs,
    group: Group,
) -> tuple[Any, ...]:
    """The fields of an `Acted`. `group`: (order, who, people, late) -> the columns by person, for numpy.
    Errors: IndexError where a slot has no row, ValueError where a column has another length."""
    n = len(columns.slot)
    given = [_buffer(type_, getattr(columns, name)) for name, type_ in _GIVEN]
    if any(len(column) != n for column in given):
        raise ValueError("a column has another length or type")
    size = _lib.act_bytes(n)
    block = np.empty(size, np.uint8)
    at = _buffer("uint8_t[]", block)
    held = _held_of(overflow) if overflow else ()
    numbers = _ffi.new("int64_t[]", held) if held else _ffi.NULL
    failed = _lib.act_begin(
        at, size, n, _buffer("uint8_t[]", rows), len(rows), VERSION, _layout, _codes, *given,
        numbers, len(held) // 4,
    )  # fmt: skip
    if failed:
        raise IndexError("a slot has no row")
    if not runs.by_numpy:
        ((functions, fields, count, _),) = runs.calls
        _lib.act_fold(at, functions, fields, count)
    else:
        _fold(rows, columns, at, block, runs, group)
    _lib.act_end(at)
    made = _made(at)
    if made.changes_n:
        _change(overflow, made, block)
    facts_n, pairs_n, evicted_n = made.facts_n, made.pairs_n, made.evicted_n
    return (
        _column(block, made.people, np.int64, made.people_n),
        _column(block, made.recent_changed, np.bool_, made.people_n),
        _column(block, made.verdict, np.uint8, n),
        _column(block, made.at, np.int64, facts_n),
        _column(block, made.pairs, np.uint8, facts_n),
        _column(block, made.partner, np.uint64, pairs_n),
        _column(block, made.lag, np.uint8, pairs_n),
        _column(block, made.evicted_at, np.int64, evicted_n),
        _column(block, made.evicted, ring.ENTRY, evicted_n),
        _column(block, made.late, np.bool_, n),
    )


def _held_of(overflow: dict[int, Overflow]) -> list[int]:
    """Of each: slot, address of the numbers, how many there are, and how many of place 0."""
    found: list[int] = []
    for slot in sorted(overflow):
        held = overflow[slot]
        found += (slot, *held.numbers, held.sizes[0])
    return found


def _change(overflow: dict[int, Overflow], made: Made, block: Block) -> None:
    """Changes the overflows as the kernel says: which places are dropped, and which numbers are added."""
    changes = _column(block, made.changes, np.int64, 4 * made.changes_n)
    for slot, dropped, first, count in changes.reshape(-1, 4).tolist():
        held = overflow.get(slot)
        if held is None:
            held = overflow[slot] = Overflow()
        for place in (0, 1):
            if dropped >> place & 1:
                held.drop(place)
        at = made.added + 4 * first
        held.extend(block[at : at + 4 * count].tobytes())


def _made(at: Any) -> Made:
    return Made(*_ffi.unpack(_ffi.cast("int64_t *", at), len(Made._fields)))


def _fold(
    rows: NDArray[np.void], columns: ActionColumns, at: Any, block: Block, runs: Runs, group: Group
) -> None:
    """Calls the kernel for the features that have a function, and `update` of the others, in their order."""
    made, raw = _made(at), rows.view(_RAW)
    people: I64 = np.ndarray(made.people_n, np.int64, block, made.people)
    order = _column(block, made.order, np.uint32, len(columns.slot)).astype(np.int64)
    who = np.searchsorted(people, columns.slot[order])
    late = _column(block, made.late, np.bool_, len(order))
    grouped = group(order, who, len(people), late)
    entered = RECENT[grouped.action]
    before = raw[people].view(ROW)["n"].astype(np.int64)
    folded = Folded(entered, grouped.where(entered), before, {})
    for functions, fields, count, feature in runs.calls:
        if feature is None:
            _lib.act_fold(at, functions, fields, count)
            _lib.act_end(at)
            _fill(folded, block, _made(at), order, who)
        else:
            taken = raw[people].view(ROW)
            feature.update(taken, grouped, folded)
            raw[people] = taken.view(_RAW)


def _fill(folded: Folded, block: Block, made: Made, order: I64, who: I64) -> None:
    """Fills what the kernel found so far."""
    n, acts = len(order), order[folded.entered]
    folded.in_order = _column(block, made.in_order, np.bool_, n)[acts]
    folded.session_rank = _column(block, made.session_rank, np.int64, n)[acts]
    folded.met = _column(block, made.met, np.bool_, n)[acts]
    folded.repeats = _column(block, made.repeats, np.uint8, n)[acts].astype(np.int64)
    folded.full = _column(block, made.verdict, np.uint8, n)[acts] == 2
    pairs = _column(block, made.pairs, np.uint8, made.facts_n)
    owner = np.repeat(_column(block, made.at, np.int64, made.facts_n), pairs)
    lag = _column(block, made.lag, np.uint8, made.pairs_n)
    partners, reach = np.zeros((n, window.MAX_LAG), np.uint64), np.zeros(n, np.int64)
    partners[owner, (lag & LAG) - 1] = _column(block, made.partner, np.uint64, made.pairs_n)
    within = lag & SAME_SESSION > 0
    np.maximum.at(reach, owner[within], lag[within] & LAG)
    folded.partners, folded.reach = partners[acts], reach[acts]
    place = np.empty(n, np.int64)
    place[order] = who
    folded.evicted_who = place[_column(block, made.evicted_at, np.int64, made.evicted_n)]
    folded.evicted = _column(block, made.evicted, ring.ENTRY, made.evicted_n)


def _column(block: Block, at: int, dtype: Any, n: int) -> Any:
    return np.ndarray(n, dtype, block, at)
