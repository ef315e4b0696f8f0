"""Ids as places in a list, in the order in which they came."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.datasets import convert
from infra.datasets.rows import Notes
from schemas.identity import NOT_PEOPLE, check_item_id, check_person_id
from schemas.reject import Rejected

NO_ID: Final = -1
_NOTHING: Final = ("", r"\N")
_NOT_PEOPLE: Final = NOT_PEOPLE | {"na", "n/a", "<na>"}
"""Also what R and pandas write for nothing."""


class Numbering(dict[Any, int]):
    """A cell of a file -> the place of its id in `names`; `NO_ID` where it is none. Cells that spell one id
    have one place."""

    def __init__(self, check: Callable[[str], str]) -> None:
        """`check`: the id that a text spells. Errors: `Rejected`."""
        super().__init__()
        self.names: list[str] = []
        self._check, self._of_name = check, dict[str, int]()
        self._whole = False
        self._notes = Notes()

    def recognise_fractions(self, sample: Iterable[Any], notes: Notes) -> None:
        """Ids are read without their fraction where all in the sample are written like 1.0."""
        self._whole, self._notes = convert.are_whole_with_fraction(sample), notes

    def __missing__(self, cell: Any) -> int:
        found = self[cell] = self._number(cell)
        return found

    def code(self, cells: Iterable[Any]) -> NDArray[np.int64]:
        """(n,): the places of n cells."""
        return np.array([*map(self.__getitem__, cells)], np.int64)

    def _number(self, cell: Any) -> int:
        if cell is None or cell in _NOTHING or cell != cell:
            return NO_ID
        read = convert.whole_identifier if self._whole else convert.identifier
        try:
            name = self._check(read(cell, "id", self._notes))
        except Rejected:
            return NO_ID
        if name not in self._of_name:
            self._of_name[name] = len(self.names)
            self.names.append(name)
        return self._of_name[name]


def of_people() -> Numbering:
    return Numbering(lambda text: check_person_id(text, "user_id", _NOT_PEOPLE))


def of_items() -> Numbering:
    return Numbering(lambda text: check_item_id(text, "item_id"))


def of_texts() -> Numbering:
    """Of categories and of baskets: any text that is not blank."""
    return Numbering(str)


def ranks(names: list[str]) -> NDArray[np.int64]:
    """(n,): the place of each of n names in their sorted order."""
    found = np.empty(len(names), np.int64)
    found[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return found
