"""Acts in rows of cells: ratings, clicks, lines of baskets, and sequences of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.datasets import delimited, parquet, tabular
from infra.datasets.delimited import CellRows
from infra.datasets.layouts import numbering, numbers
from infra.datasets.layouts.gathered import ActColumns, Gathered
from infra.datasets.layouts.numbering import NO_ID
from infra.datasets.layouts.opened import Opened
from infra.datasets.layouts.roles import (
    ACTION,
    BASKET,
    CATEGORY,
    ITEM,
    LABEL,
    PERSON,
    RATING,
    SESSION,
    TEXT,
    TIME,
    TITLE,
    plain,
)
from infra.datasets.layouts.shapes import BLANK, RECBOLE, Shape
from infra.datasets.rows import Fault, Notes
from schemas.actions import CLIENT_ACTIONS, CODE
from schemas.items import Item, with_primary

_OTHER: Final = -1
_ACTIONS: Final = {
    "pageview": "view", "pv": "view", "detail": "view", "browse": "view", "clk": "click",
    "addtocart": "cart", "addcart": "cart", "add": "cart",
    "transaction": "purchase", "buy": "purchase", "order": "purchase", "pay": "purchase",
    "fav": "like", "favorite": "like", "favourite": "like", "collect": "like", "wishlist": "like",
}  # fmt: skip
"""What data sets call actions."""
_WITHIN_DAY: Final = "timeframe"
"""A column of ms since the session began, beside one of days (Diginetica)."""
_NO_CATEGORY: Final = ("", "0", "S")
"""As YOOCHOOSE writes none, and an offer of any category."""


class Table:
    """The acts of one file. `titles`, `categories`: what its lines say of items, by place; of a category how
    often."""

    def __init__(self, shape: Shape, notes: Notes) -> None:
        self.shape, self.notes, at = shape, notes, shape.roles
        self.rating = at.get(RATING, at.get(LABEL)) if BASKET not in at else None
        self.gathered = Gathered(notes, has_time=TIME in at, has_rating=self.rating is not None)
        self.titles: dict[int, str] = {}
        self.categories: Counter[tuple[int, Any]] = Counter()
        self._person = at.get(PERSON, at.get(SESSION, at.get(BASKET, 0)))
        self._within = next((n for n, it in enumerate(shape.names) if plain(it) == _WITHIN_DAY), -1)
        self._codes = _Codes(self._default())

    def read(self, found: Iterator[CellRows]) -> None:
        """Every row."""
        sample, rest = tabular.sampled(found)
        rows = [row for held in sample for row in held.cells][: tabular.SAMPLE_ROWS]
        self._recognise(rows)
        for it in tabular.chained(sample, rest):
            self.gathered.refuse(it.faults)
            if it.cells:
                self._take(it)

    def _recognise(self, rows: Sequence[Sequence[Any]]) -> None:
        """Whose act one is: a person's where every row names one, else the session's; how ids are written."""
        at, people = self.shape.roles, self.gathered.people
        if PERSON in at and SESSION in at:
            trial = numbering.of_people().code([row[at[PERSON]] for row in rows])
            self._person = at[SESSION] if (trial == NO_ID).any() else at[PERSON]
        people.recognise_fractions([row[self._person] for row in rows], self.notes)
        self.gathered.items.recognise_fractions([row[at[ITEM]] for row in rows], self.notes)

    def _take(self, rows: CellRows) -> None:
        at, columns = self.shape.roles, [*zip(*rows.cells, strict=True)]
        count, lines = len(rows.cells), np.fromiter(rows.lines, np.int64, len(rows.cells))
        item = self.gathered.items.code(columns[at[ITEM]])
        action = self._actions(columns, count)
        acts = ActColumns(
            self._people(columns),
            item,
            self._times(columns, count),
            action,
            self.gathered.baskets.code(columns[at[BASKET]]) if BASKET in at else _none(count),
            self._ratings(columns, count),
        )
        if (said := at.get(TITLE, at.get(TEXT))) is not None:
            self.titles |= zip(item.tolist(), map(str, columns[said]), strict=True)
        if CATEGORY in at:
            self.categories.update(zip(item.tolist(), columns[at[CATEGORY]], strict=True))
        given = {"header_again": self._headers(columns, count), "other_action": action == _OTHER}
        self.gathered.add(acts, lines, given)

    def _people(self, columns: list[Any]) -> NDArray[np.int64]:
        """A line of a basket without a person is its basket's."""
        at, people = self.shape.roles, self.gathered.people
        found = people.code(columns[self._person])
        if BASKET in at and at[BASKET] != self._person:
            for n in np.flatnonzero(found == NO_ID).tolist():
                found[n] = people[f"basket {columns[at[BASKET]][n]}"]
        return found

    def _times(self, columns: list[Any], count: int) -> NDArray[np.int64]:
        if TIME not in self.shape.roles:
            return np.zeros(count, np.int64)
        found = numbers.moments(columns[self.shape.roles[TIME]], self.notes)
        if self._within >= 0:
            within = np.nan_to_num(numbers.floats(columns[self._within]))
            found = np.where(found == numbers.NO_TIME, found, found + within.astype(np.int64))
        return found

    def _ratings(self, columns: list[Any], count: int) -> NDArray[np.float32]:
        if self.rating is None:
            return np.full(count, np.nan, np.float32)
        return numbers.floats(columns[self.rating]).astype(np.float32)

    def _actions(self, columns: list[Any], count: int) -> NDArray[np.int8]:
        if ACTION not in self.shape.roles:
            return np.full(count, self._codes.default, np.int8)
        cells = columns[self.shape.roles[ACTION]]
        return np.array([*map(self._codes.__getitem__, cells)], np.int8)

    def _headers(self, columns: list[Any], count: int) -> NDArray[np.bool_]:
        """(n,): whether a row is the header once more, as where files were joined."""
        names, at = self.shape.names, self.shape.roles
        if not names:
            return np.zeros(count, np.bool_)
        name = names[at[ITEM]]
        return np.array([it == name for it in columns[at[ITEM]]], np.bool_)

    def _default(self) -> int:
        return CODE["cart" if BASKET in self.shape.roles else "click"]


class _Codes(dict[Any, int]):
    """A cell that names an action -> its code, `_OTHER` where that is none of ours."""

    def __init__(self, default: int) -> None:
        super().__init__()
        self.default = default

    def __missing__(self, cell: Any) -> int:
        name = plain(str(cell))
        name = _ACTIONS.get(name, name)
        found = self[cell] = CODE[name] if name in CLIENT_ACTIONS else _OTHER
        return found


def rows(found: Opened, shape: Shape, notes: Notes) -> Iterator[CellRows]:
    """The rows of a file after its header, if it has one."""
    if found.is_parquet:
        return parquet.rows(found.path, [*shape.names], notes)
    if shape.by == BLANK:
        cells = _between_blanks(found, shape.width)
    else:
        quoted = shape.layout != RECBOLE and bool(shape.names)
        reader = delimited.Reader(shape.by, found.decoder, shape.width, quoted=quoted)
        cells = reader.rows(found.stretches)
    return tabular.header(cells)[1] if shape.names else cells


def _between_blanks(found: Opened, width: int) -> Iterator[CellRows]:
    for stretch in found.stretches:
        lines, held = found.decoder.decode(stretch)
        cells: list[Sequence[Any]] = [it.split() for it in lines]
        odd = [n for n, it in zip(held.numbers, cells, strict=True) if len(it) != width]
        faults = [*held.faults, *(Fault(n, "line", "wrong_columns") for n in odd)]
        numbers_of = [n for n, it in zip(held.numbers, cells, strict=True) if len(it) == width]
        yield CellRows([it for it in cells if len(it) == width], numbers_of, faults)


def _none(count: int) -> NDArray[np.int64]:
    return np.full(count, NO_ID, np.int64)


def items(table: Table) -> dict[int, Item]:
    """Bare items by place, with what the lines of their acts say of them."""
    names, of = table.gathered.items.names, _categories(table)
    return {
        place: with_primary(
            Item(
                item_id=names[place],
                title=table.titles.get(place, ""),
                category=of.get(place, ""),
            )
        )
        for place in of.keys() | table.titles.keys()
        if place != NO_ID
    }


def _categories(table: Table) -> dict[int, str]:
    """Item -> the category that most of its lines say."""
    found: dict[int, str] = {}
    for (item, category), _ in table.categories.most_common():
        name = "" if category is None else str(category).strip()
        found.setdefault(item, "" if name in _NO_CATEGORY else name)
    return found
