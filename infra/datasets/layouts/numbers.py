"""Columns of cells as arrays: times and numbers, all at once where they are plain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.datasets import convert
from infra.datasets.rows import Notes
from schemas.reject import Rejected
from schemas.times import LATEST

NO_TIME: Final = np.iinfo(np.int64).min
_UNITS: Final = ((1e11, 1e3), (1e14, 1.0), (1e17, 1e-3), (1e20, 1e-6))
"""(bound, ms): as `convert` tells s, ms, us and ns apart."""
_DATES: Final = (1.9e7, 2.1e7)
"""Numbers between these may be dates without signs, as 20140407."""
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")


def moments(cells: Sequence[Any], notes: Notes) -> NDArray[np.int64]:
    """(n,) ms since 1970, `NO_TIME` where a cell is no time: numbers of seconds to nanoseconds, or ISO 8601,
    each by itself, as `convert.moment`.

    >>> moments(["1256677221", "1256677221000", "2009-10-27 21:00:21", "nan"], Notes())[:3].tolist()
    [1256677221000, 1256677221000, 1256677221000]
    """
    found = _of_numbers(cells)
    if found is None:
        found = _of_iso(cells, notes)
    return _one_by_one(cells, notes) if found is None else found


def out_of_range(times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,): whether the log takes no such time; those that are none are not among them."""
    odd: NDArray[np.bool_] = (times != NO_TIME) & ((times < 0) | (times > LATEST))
    return odd


def floats(cells: Sequence[Any]) -> NDArray[np.float64]:
    """(n,): NaN where a cell is no number that is finite in 32 bits.

    >>> floats(["4.5", "-1", "x", "inf", "1e39"]).tolist()
    [4.5, -1.0, nan, nan, nan]
    """
    try:
        found = np.array([*map(float, cells)], np.float64)
    except (ValueError, TypeError):
        found = np.array([*map(_float, cells)], np.float64)
    found[~(np.abs(found) <= np.finfo(np.float32).max)] = np.nan
    return found


def _float(cell: Any) -> float:
    try:
        return float(cell)
    except (ValueError, TypeError):
        return float("nan")


def _of_numbers(cells: Sequence[Any]) -> NDArray[np.int64] | None:
    """None: some are no numbers, or may be dates."""
    try:
        found = np.array([*map(float, cells)], np.float64)
    except (ValueError, TypeError):
        return None
    size = np.abs(found)
    if ((size > _DATES[0]) & (size < _DATES[1])).any():
        return None
    millis = np.full(len(found), np.nan)
    for bound, scale in reversed(_UNITS):
        millis = np.where(size < bound, found * scale, millis)
    there = np.isfinite(millis)
    return np.where(there, np.rint(np.where(there, millis, 0)), NO_TIME).astype(np.int64)


def _of_iso(cells: Sequence[Any], notes: Notes) -> NDArray[np.int64] | None:
    """None: some are written otherwise than the first."""
    try:
        first, joined = cells[0].strip(), "".join(cells)
        size = len(first)
        zulu = first.endswith("Z")
        whole = _ISO.fullmatch(first.removesuffix("Z")) or (not zulu and _DAY.fullmatch(first))
        if not whole or "+" in joined or joined.count("Z") != zulu * len(cells):
            return None
        if any(len(it) != size for it in cells):
            return None
        found = np.array([it[: size - zulu] for it in cells], "datetime64[ms]").astype(np.int64)
    except (ValueError, TypeError, AttributeError):
        return None
    if not zulu and len(first) > len("2009-10-27"):
        notes.add("times_without_offset", "times without an offset were read as UTC", len(cells))
    return found


def _one_by_one(cells: Sequence[Any], notes: Notes) -> NDArray[np.int64]:
    """A cell that repeats is read once."""
    held: dict[Any, int] = {}
    for cell in cells:
        if cell not in held:
            try:
                held[cell] = convert.moment(cell, "occurred_at", notes)
            except Rejected:
                held[cell] = NO_TIME
    return np.array([held[it] for it in cells], np.int64)
