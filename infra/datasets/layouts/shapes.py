"""What a file of text is, by its first lines: which layout, where its cells are, and what they hold."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from infra.datasets import delimited
from infra.datasets.fields import EVENTS, ITEMS
from infra.datasets.layouts import numbers, roles
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
)
from infra.datasets.movielens_files import FLAGS, FLAGS_FROM
from infra.datasets.rows import Notes
from schemas.times import EARLIEST

RATINGS: Final = "ratings"
CLICKS: Final = "clicks"
RECBOLE: Final = "recbole"
SEQUENCES: Final = "sequences"
BASKETS: Final = "baskets"
EVENTS_OF_API: Final = "events"
CATALOGUE: Final = "items"
"""A file of items: no set by itself."""
LAYOUTS: Final = (RATINGS, CLICKS, RECBOLE, SEQUENCES, BASKETS, EVENTS_OF_API)
BLANK: Final = " "
_DELIMITERS: Final = (*delimited.DELIMITERS, BLANK)
_MOST: Final = 0.8
"""Share of the first lines that decides: some may be damaged."""
_MAX_CODE: Final = 64
"""Characters of an item's code in a list; what is longer is prose."""
_LEAST_MOMENT: Final = EARLIEST
"""ms of a time: smaller numbers in a file without a header are ratings or ids."""
_LIST_OF_IDS: Final = "_list:token_seq"
_MAX_SCALE: Final = 21
"""Values of a scale of ratings."""
_WORDS: Final = re.compile(r"[0-9]")
_FRACTION: Final = re.compile(r"-?[0-9]*\.[0-9]+")
_FILM_CELLS: Final = FLAGS_FROM + len(FLAGS)
"""Of a line of u.item."""


class Shape(NamedTuple):
    """`layout`: "" where it is none; `by`: between cells, a blank: any blanks; `names`: of the columns, ()
    without a header; `roles`: what a column holds -> its place; `width`: columns, 0 in a list of ids;
    `also`: another layout that fits as well."""

    layout: str
    by: str = ""
    names: tuple[str, ...] = ()
    roles: Mapping[str, int] = MappingProxyType({})
    width: int = 0
    also: str = ""
    why: str = (
        "it has no header with names of people and items, and its lines are none of the layouts"
    )
    """Why it is none."""

    @property
    def is_of_api(self) -> bool:
        """Whether each column that says something of an item is a field of the API."""
        return all(ITEMS.converter(it) or not roles.role(it) for it in self.names) and not (
            self.roles and not self.names
        )


def shape(head: Sequence[str], layout: str = "") -> Shape:
    """What the first lines say. `layout`: as it was asked for; it decides between two that fit."""
    if sum(it.strip().startswith("{") for it in head) * 2 >= len(head):
        return _of_json(head)
    found = _with_header(head[0]) or _table(head) or _films(head) or _lists(head)
    if found is None:
        return Shape("")
    if layout and layout == found.also:
        return found._replace(layout=found.also, also="")
    return found._replace(also="") if layout == found.layout else found


def by_header(names: Sequence[str], by: str = "") -> Shape | None:
    """The layout of a table whose columns have these names; None where they are no names that sets use.

    A rating makes ratings of it; else an order or an invoice baskets; else a session or a time clicks; what
    has people and items alone is sequences."""
    at = roles.roles(names)
    if {"item_id", "action", "occurred_at"} <= {*names} and {"user_id", "anonymous_id"} & {*names}:
        return Shape(EVENTS_OF_API, by, tuple(names))
    made = Shape("", by, tuple(names), at, len(names))
    acted = ITEM in at and {PERSON, SESSION, BASKET} & at.keys()
    if not acted:
        return _catalogue(made)
    if roles.is_typed(names):
        if any(it.endswith(_LIST_OF_IDS) for it in names):
            return made._replace(why="its lines hold prefixes of sequences, not acts")
        return made._replace(layout=RECBOLE)
    if "tag" in map(roles.plain, names):
        return made._replace(why="it holds tags that people gave, no acts")
    if RATING in at or LABEL in at:
        return made._replace(layout=RATINGS)
    if BASKET in at and ACTION not in at:
        return made._replace(layout=BASKETS, also=CLICKS if SESSION in at else "")
    if SESSION in at or TIME in at or ACTION in at:
        return made._replace(layout=CLICKS)
    return made._replace(layout=SEQUENCES)


def cells(line: str, by: str) -> list[str]:
    """Of a line. One whose quotes do not end is split as it is."""
    if by == BLANK:
        return line.split()
    try:
        return delimited.split(line, by)
    except csv.Error:
        return line.split(by)


def _of_json(head: Sequence[str]) -> Shape:
    if sum('"item_id"' in it for it in head) * 2 < len(head):
        return Shape("", why="its objects have no item_id")
    acts = sum('"action"' in it or '"user_id"' in it or '"anonymous_id"' in it for it in head)
    return Shape(EVENTS_OF_API if acts * 2 >= len(head) else CATALOGUE)


def _catalogue(made: Shape) -> Shape | None:
    at = made.roles
    about = at.keys() & {TITLE, CATEGORY, TEXT, roles.TAGS, roles.OWNER}
    others = [it for it in made.names if it != "item_id" and ITEMS.converter(it)]
    if ITEM in at and (about or others):
        return made._replace(layout=CATALOGUE)
    if at or roles.is_typed(made.names):
        missing = "people" if ITEM in at else "items"
        return made._replace(why=f"it has no column of {missing}")
    return None


def _with_header(line: str) -> Shape | None:
    def is_named(cell: str) -> bool:
        return bool(roles.role(cell)) or EVENTS.converter(cell.strip()) is not None

    by = delimited.delimiter(line, is_named)
    names = [it.strip() for it in cells(line, by)]
    if len(names) < 2 and len(line.split()) > 1:
        by, names = BLANK, line.split()
    return by_header(names, by) if any(map(is_named, names)) else None


def _table(head: Sequence[str]) -> Shape | None:
    """Without a header: (person, item, rating, time), (person, item, time), (session, time, item), or
    (person, item, rating) where ratings are few and people come again."""
    for by in _DELIMITERS:
        rows = _rows_of_a_width(head, by)
        width = len(rows[0]) if rows else 0
        if width in (3, 4) and _are(_is_iso, rows, 1):
            at = {SESSION: 0, TIME: 1, ITEM: 2, **({CATEGORY: 3} if width == 4 else {})}
            return Shape(CLICKS, by, (), at, width)
        if width == 4 and _are(_is_rating, rows, 2) and _are(_is_moment, rows, 3):
            return Shape(RATINGS, by, (), {PERSON: 0, ITEM: 1, RATING: 2, TIME: 3}, width)
        if width == 3 and _are(_is_moment, rows, 2):
            return Shape(CLICKS, by, (), {PERSON: 0, ITEM: 1, TIME: 2}, width)
        if width == 3 and _are(_is_moment, rows, 1):
            return Shape(CLICKS, by, (), {SESSION: 0, TIME: 1, ITEM: 2}, width)
        if width == 3 and _are(_is_rating, rows, 2) and _is_scale(rows):
            return Shape(RATINGS, by, (), {PERSON: 0, ITEM: 1, RATING: 2}, width)
    return None


def _films(head: Sequence[str]) -> Shape | None:
    """The films of MovieLens, without a header."""
    for by, width in (("::", 3), ("|", _FILM_CELLS)):
        rows = _rows_of_a_width(head, by)
        if rows and len(rows[0]) == width:
            return Shape(CATALOGUE, by, (), {ITEM: 0, TITLE: 1, CATEGORY: 2}, width)
    return None


def _lists(head: Sequence[str]) -> Shape | None:
    """A person and one item a line, or several; or the codes of a basket."""
    by = max(_DELIMITERS, key=lambda it: sum(len(cells(line, it)) > 1 for line in head))
    rows = [[it.strip() for it in cells(line, by)] for line in head]
    codes = [it for row in rows for it in row if it]
    if not codes or not _are_codes(codes, by) or sum(len(it) > 1 for it in rows) * 2 < len(rows):
        return None
    first = [row[0] for row in rows]
    unique = len({*first}) == len(first)
    if _is_share(sum(len(it) == 2 for it in rows), len(rows), 1.0):
        # pairs: sorted by person each one's lines are together
        together = sum(a != b for a, b in pairwise(first)) + 1 == len({*first})
        if by == BLANK or by == "\t" or (together and not unique):
            return Shape(SEQUENCES, by, (), {PERSON: 0, ITEM: 1}, 2)
        return Shape(BASKETS, by, also=SEQUENCES)
    if by == BLANK:
        return Shape(SEQUENCES, by, also="" if unique else BASKETS)
    return Shape(BASKETS, by, also=SEQUENCES if _is_counted(first) else "")


def _is_counted(first: Sequence[str]) -> bool:
    """Whether lines begin with people's numbers, as 1, 2, 3."""
    if len(first) < 2 or not all(it.isdecimal() for it in first):
        return False
    return bool((np.diff([*map(int, first)]) > 0).all())


def _are_codes(codes: Sequence[str], by: str) -> bool:
    """No prose, no features, no numbers with fractions."""
    odd = sum(len(it) > _MAX_CODE or ":" in it or bool(_FRACTION.fullmatch(it)) for it in codes)
    numbered = sum(bool(_WORDS.search(it)) for it in codes)
    return odd * 10 < len(codes) and (by != BLANK or _is_share(numbered, len(codes), 0.9))


def _rows_of_a_width(head: Sequence[str], by: str) -> list[list[str]]:
    """The rows of the width that most have; [] where not most have it."""
    rows = [cells(line, by) for line in head]
    widths = [len(it) for it in rows]
    most = max({*widths}, key=widths.count)
    found = [it for it in rows if len(it) == most]
    return found if _is_share(len(found), len(rows), _MOST) else []


def _is_share(count: int, of: int, share: float) -> bool:
    return count >= share * of


def _are(holds: Callable[[str], bool], rows: Sequence[Sequence[str]], place: int) -> bool:
    return _is_share(sum(holds(row[place].strip()) for row in rows), len(rows), _MOST)


def _is_scale(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the third column has the few values of a scale, and the first comes again."""
    values = {row[2] for row in rows}
    people = {row[0] for row in rows}
    return len(values) <= min(_MAX_SCALE, len(rows) // 4) and len(people) * 2 <= len(rows)


def _is_iso(cell: str) -> bool:
    return cell[4:5] == "-" and numbers.moments([cell], Notes())[0] != numbers.NO_TIME


def _is_moment(cell: str) -> bool:
    at = int(numbers.moments([cell], Notes())[0])
    return at >= _LEAST_MOMENT


def _is_rating(cell: str) -> bool:
    return bool(abs(numbers.floats([cell])[0]) <= 100)
