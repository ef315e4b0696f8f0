"""Delimited text (CSV and its kin) as rows of cells: a line that is none costs itself."""

from __future__ import annotations

import csv
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from infra.datasets.lines import MAX_LINE_BYTES, Stretch
from infra.datasets.rows import Fault, NotReadable
from infra.datasets.text import Decoder

DELIMITERS: Final = (",", "\t", ";", "|", "::")
MAX_RECORD_CHARACTERS: Final = MAX_LINE_BYTES
"""A quoted cell may hold line ends, but no more than this."""
FREE_CHARACTERS: Final = 16 << 20
"""So many may be read again, beyond the size of the file, after quotes that do not end."""
_PENDING: Final = 0
_ENDLESS: Final = -1
csv.field_size_limit(MAX_RECORD_CHARACTERS)


class CellRows(NamedTuple):
    """`lines[i]`: where `cells[i]` begins."""

    cells: list[Sequence[Any]]
    lines: list[int]
    faults: list[Fault]


def delimiter(head: str, taken: Callable[[str], bool]) -> str:
    """Of the header in the first line: the one that gives most columns that are taken, then most columns."""
    quality = {}
    for it in DELIMITERS:
        try:
            cells = split(head, it)
        except csv.Error:
            cells = head.split(it)
        quality[it] = sum(map(taken, cells)), len(cells)
    return max(DELIMITERS, key=quality.__getitem__)


def split(line: str, by: str) -> list[str]:
    """The cells of a record. ``::`` knows no quotes. Errors: `csv.Error`."""
    if len(by) > 1 or '"' not in line:
        return line.split(by)
    return next(csv.reader((line,), delimiter=by), [])


class Reader:
    """Reads the rows of one file. Each has `width` cells; None: as many as the first has. `quoted`: a cell
    may stand between quotes."""

    def __init__(
        self, by: str, decoder: Decoder, width: int | None = None, *, quoted: bool = True
    ) -> None:
        self.by, self.decoder, self.width = by, decoder, width
        self.quoted = quoted and len(by) == 1
        self.closed, self.closing = _patterns(by)
        self.lines: list[str] = []
        self.numbers: list[int] = []
        self.refused: set[int] = set()
        """Lines that may lie within a record, and are none of its."""
        self.offsets: list[int] = []
        """Where each line begins, in characters."""
        self.searched = 0
        """No line up to this number ends a quote that is open now."""
        self.seen = self.again = 0

    def rows(self, found: Iterator[Stretch]) -> Iterator[CellRows]:
        """Every row. Errors: `NotReadable` after too many quotes that do not end, and those of `found`."""
        try:
            for stretch in found:
                yield self._take(stretch)
        except NotReadable as error:
            yield self._parse(at_end=True)
            raise error
        yield self._parse(at_end=True)

    def _take(self, stretch: Stretch) -> CellRows:
        lines, stretch = self.decoder.decode(stretch)
        self.refused = {it.line for it in stretch.faults} | (self.refused if self.lines else set())
        self.lines += lines
        self.numbers += stretch.numbers
        self.seen += sum(map(len, lines))
        rows = self._parse(at_end=False)
        rows.faults[:0] = stretch.faults
        return rows

    def _parse(self, *, at_end: bool) -> CellRows:
        if (plain := self._plain()) is not None:
            return plain
        rows = CellRows([], [], [])
        lines, numbers, at = self.lines, self.numbers, 0
        sizes = zip(lines, numbers, numbers[1:], strict=False)
        self.offsets = [*accumulate((len(it) + b - a for it, a, b in sizes), initial=0)]
        while at < len(lines):
            end = self._end(at)
            if end == _PENDING and not at_end:
                break
            text = self._joined(at, end) if end > at else None
            if code := self._add(rows, text, numbers[at]):
                rows.faults.append(Fault(numbers[at], "line", code))
                if end > at + 1:  # what a stray quote took in is read again
                    self._go_back(sum(map(len, lines[at:end])))
                end = at + 1
            at = end
        del lines[:at], numbers[:at]
        return rows

    def _plain(self) -> CellRows | None:
        """What `_parse` gives where no cell is quoted and no row has another width; None: one is or has."""
        if self.quoted and any('"' in it for it in self.lines):
            return None
        cells: list[Sequence[Any]] = [it.split(self.by) for it in self.lines]
        width = self.width or (len(cells[0]) if cells else 0)
        if any(len(it) != width for it in cells):
            return None
        self.width = width or None
        rows = CellRows(cells, self.numbers, [])
        self.lines, self.numbers = [], []
        return rows

    def _add(self, rows: CellRows, text: str | None, number: int) -> str:
        """The code of the fault; "" where there is none."""
        if text is None:
            return "open_quote"
        try:
            cells = split(text, self.by) if self.quoted else text.split(self.by)
        except csv.Error:
            return "malformed"
        if self.width is None:
            self.width = len(cells)
        if len(cells) != self.width:
            return "wrong_columns"
        rows.cells.append(cells)
        rows.lines.append(number)
        return ""

    def _end(self, at: int) -> int:
        """The place after the record that begins at `at`; `_PENDING`: a quote of it does not end so far;
        `_ENDLESS`: nor within the bound."""
        lines, numbers, offsets = self.lines, self.numbers, self.offsets
        if not self.quoted or '"' not in lines[at] or self.closed.fullmatch(lines[at]):
            return at + 1
        bound = offsets[at] + MAX_RECORD_CHARACTERS
        # whether a line ends a quote does not hang on where that began: none is searched twice
        for place in range(max(at + 1, bisect_right(numbers, self.searched)), len(lines)):
            if offsets[place] + len(lines[place]) > bound:
                return _ENDLESS
            if '"' in lines[place] and self.closing.fullmatch(lines[place]):
                return place + 1
            self.searched = numbers[place]
        return _ENDLESS if offsets[-1] + len(lines[-1]) > bound else _PENDING

    def _joined(self, at: int, end: int) -> str | None:
        """The lines from `at` to `end`, with the blank ones between; None: one of them was refused."""
        if end == at + 1:
            return self.lines[at]
        first, last = self.numbers[at], self.numbers[end - 1]
        if any(first < it < last for it in self.refused):
            return None
        found = dict(zip(self.numbers[at:end], self.lines[at:end], strict=True))
        return "\n".join(found.get(it, "") for it in range(first, last + 1))

    def _go_back(self, size: int) -> None:
        self.again += size
        if self.again > self.seen + FREE_CHARACTERS:
            raise NotReadable(
                "has too many quotes that do not end", remedy="write each quote within a cell twice"
            )


def _patterns(by: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A record whose quotes end, and the rest of one from within a quoted cell on: a quote of an earlier line
    ends only where its cell does, so that two stray ones do not take in what lies between."""
    other = f"[^{re.escape(by)}]*+"
    quoted = '[^"]*+(?:""[^"]*+)*+"'
    cell = f'(?:"{quoted}{other}|(?!"){other})'
    rest = f"(?:{re.escape(by)}{cell})*+"
    return re.compile(cell + rest), re.compile(quoted + rest)
