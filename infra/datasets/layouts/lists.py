"""Acts in lines of ids: a person and what they took, in order; or the codes of a basket."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

import numpy as np

from infra.datasets.layouts.gathered import ActColumns, Gathered
from infra.datasets.layouts.numbering import NO_ID
from infra.datasets.layouts.opened import Opened
from infra.datasets.layouts.shapes import Shape, cells
from infra.datasets.rows import Notes
from schemas.actions import CODE

SEQUENCE_CODE: Final = CODE["click"]
BASKET_CODE: Final = CODE["cart"]


def sequences(found: Opened, shape: Shape, notes: Notes) -> Gathered:
    """``user item item`` a line, in order; a person who comes again goes on where they were."""
    gathered = Gathered(notes)
    for rows, numbers in _lines(found, shape, gathered):
        people = np.array([gathered.people[row[0]] for row in rows], np.int64)
        _add(gathered, [row[1:] for row in rows], numbers, people, is_basket=False)
    return gathered


def baskets(found: Opened, shape: Shape, notes: Notes) -> Gathered:
    """``code,code`` a line. Each basket is a person of its own, who is called as its line."""
    gathered = Gathered(notes)
    for rows, numbers in _lines(found, shape, gathered):
        people = gathered.people.code(map(str, numbers))
        _add(gathered, rows, numbers, people, is_basket=True)
    return gathered


def _add(
    gathered: Gathered, rows: list[list[str]], numbers: list[int], people: Any, *, is_basket: bool
) -> None:
    sizes = [len(it) for it in rows]
    count = sum(sizes)
    lines = np.repeat(np.array(numbers, np.int64), sizes)
    baskets = np.full(count, NO_ID, np.int64)
    if is_basket:
        baskets = np.repeat(gathered.baskets.code(map(str, numbers)), sizes)
    acts = ActColumns(
        np.repeat(people, sizes),
        gathered.items.code(chain.from_iterable(rows)),
        np.zeros(count, np.int64),
        np.full(count, BASKET_CODE if is_basket else SEQUENCE_CODE, np.int8),
        baskets,
        np.full(count, np.nan, np.float32),
    )
    gathered.add(acts, lines, {})


def _lines(found: Opened, shape: Shape, gathered: Gathered) -> Any:
    """The cells of some lines that have any, and their numbers."""
    for stretch in found.stretches:
        lines, held = found.decoder.decode(stretch)
        gathered.refuse(held.faults)
        rows = [[it.strip() for it in cells(line, shape.by) if it.strip()] for line in lines]
        yield [it for it in rows if it], [n for n, it in zip(held.numbers, rows, strict=True) if it]
