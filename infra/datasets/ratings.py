"""Ratings in columns of numbers: 28 bytes each, in order of time."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.datasets import convert
from infra.datasets.convert import Converter
from infra.datasets.rows import Fault, Notes
from schemas.alphabet import Millis
from schemas.reject import Rejected

THOUSANDTHS: Final = 1000
"""Of a star: ratings are held as whole numbers of them."""
_FIRST_NAME: Final = 1 << 62
"""Codes from here on are places among the ids that are no numbers; those below are the ids themselves."""
_MAX_DIGITS: Final = 18
_FIRST_SECOND: Final = 10**8
_END_SECOND: Final = 10**10
"""Digits between these are seconds (of 1973 to 2286), and no date."""


class Ids:
    """Ids as whole numbers: those that are written as one are it, the others are numbered."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.names: list[str] = []

    def code(self, name: str) -> int:
        """Of an id that is not blank."""
        if name.isdigit() and name.isascii() and len(name) <= _MAX_DIGITS:
            code = int(name)
            if name[0] != "0" or name == "0":
                return code
        found = self.codes.get(name)
        if found is None:
            found = self.codes[name] = _FIRST_NAME + len(self.names)
            self.names.append(name)
        return found

    def name(self, code: int) -> str:
        return str(code) if code < _FIRST_NAME else self.names[code - _FIRST_NAME]

    def sorted(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes in the order of what they name: numbers by size, then names by their letters."""
        if not self.names:
            return codes
        rank = np.empty(len(self.names), "i8")
        rank[sorted(range(len(self.names)), key=self.names.__getitem__)] = np.arange(len(rank))
        named = codes >= _FIRST_NAME
        found = codes.copy()
        found[named] = _FIRST_NAME + rank[codes[named] - _FIRST_NAME]
        return found


class RatingColumns:
    """Ratings in the order they were added. `scale`: the least and the most stars."""

    def __init__(self, scale: tuple[float, float], notes: Notes) -> None:
        self.scale, self.notes = scale, notes
        self.users, self.films = Ids(), Ids()
        self.user, self.film, self.at = array("q"), array("q"), array("q")
        self.stars = array("i")
        self.starts, self.offsets = array("q", [0]), array("q", [0])
        """From rating `starts[i]` on a line is the number of the rating and `offsets[i]`."""

    def __len__(self) -> int:
        return len(self.at)

    def add(
        self, lines: Sequence[int], rows: Sequence[Sequence[str]], user: Converter, film: Converter
    ) -> list[Fault]:
        """Adds the rows (user, film, rating, time) of some lines; gives what is wrong with the others."""
        if self._add_plain(lines, rows):
            return []
        faults = []
        for line, (user_id, film_id, stars, at) in zip(lines, rows, strict=True):
            try:
                user_code = self._code(self.users, user_id, "user_id", user)
                film_code = self._code(self.films, film_id, "item_id", film)
                thousandths, moment = self._thousandths(stars), self._moment(at)
            except Rejected as error:
                faults.append(Fault(line, error.field, error.code))
                continue
            self._note_line(line)
            self.user.append(user_code)
            self.film.append(film_code)
            self.stars.append(thousandths)
            self.at.append(moment)
        return faults

    def _add_plain(self, lines: Sequence[int], rows: Sequence[Sequence[str]]) -> bool:
        """As `add` does, all at once, where ids are numbers, times are seconds and no line is missing; else
        False, and nothing is added."""
        if not rows or lines[-1] - lines[0] != len(lines) - 1:
            return False
        user_ids, film_ids, cells, times = zip(*rows, strict=True)
        try:
            users, films = [*map(int, user_ids)], [*map(int, film_ids)]
            stars, seconds = [*map(float, cells)], [*map(int, times)]
        except ValueError:
            return False
        plain = (
            [*map(str, users)] == [*user_ids]
            and [*map(str, films)] == [*film_ids]
            and min(*users, *films) >= 0
            and max(*users, *films) < 10**_MAX_DIGITS
            and all(self.scale[0] <= it <= self.scale[1] for it in stars)
            and [*map(str, seconds)] == [*times]
            and min(seconds) >= _FIRST_SECOND
            and max(seconds) < _END_SECOND
        )
        if plain:
            self._note_line(lines[0])
            self.user.extend(users)
            self.film.extend(films)
            self.stars.extend([round(it * THOUSANDTHS) for it in stars])
            self.at.extend([it * 1000 for it in seconds])
        return plain

    def _note_line(self, line: int) -> None:
        """Of the rating that is added next."""
        if line - len(self.at) != self.offsets[-1]:
            self.starts.append(len(self.at))
            self.offsets.append(line - len(self.at))

    def ordered(
        self, size: int
    ) -> Iterator[tuple[list[tuple[str, str, float, Millis]], list[int]]]:
        """(user, film, stars, time) and the lines, `size` at a time, in order of (time, user, film)."""
        columns = [np.frombuffer(it, "i8") for it in (self.user, self.film, self.at)]
        users, films, at = columns
        order = np.lexsort((self.films.sorted(films), self.users.sorted(users), at))
        stars = np.frombuffer(self.stars, "i4")
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            within = np.searchsorted(self.starts, chosen, "right") - 1
            found = zip(
                map(self.users.name, users[chosen].tolist()),
                map(self.films.name, films[chosen].tolist()),
                (stars[chosen] / THOUSANDTHS).tolist(),
                at[chosen].tolist(),
                strict=True,
            )
            yield [*found], (chosen + np.asarray(self.offsets)[within]).tolist()

    def _code(self, ids: Ids, cell: str, field: str, converter: Converter) -> int:
        name = converter(cell, field, self.notes)
        if not name:
            raise Rejected(field, "required")
        return ids.code(name)

    def _thousandths(self, cell: str) -> int:
        try:
            value = float(cell)
        except ValueError:
            raise Rejected("value", "wrong_type") from None
        if not self.scale[0] <= value <= self.scale[1]:
            raise Rejected("value", "out_of_range")
        return round(value * THOUSANDTHS)

    def _moment(self, cell: str) -> Millis:
        return convert.moment(cell, "occurred_at", self.notes)
