"""Rows of files, as every reader gives them: chunks of JSON objects, and the lines that cost themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from schemas.errors import FreshetError


class NotReadable(FreshetError):
    """A file cannot be read, or not to its end; the text says where and why, never what it holds."""


class Fault(NamedTuple):
    """A line that is refused. `line`: from 1, as an editor counts (of Parquet the row); `field`: ``line``
    where the whole of it is meant; `code`: a stable word, as the API's."""

    line: int
    field: str
    code: str


class Chunk(NamedTuple):
    """Some rows of a file, in its order. `bodies`: JSON objects as the API takes them, in UTF-8, each without
    a line end; `lines[i]`: the line of `bodies[i]`; `faults`: lines of the same stretch that are refused."""

    bodies: list[bytes]
    lines: Sequence[int]
    faults: list[Fault]


class Notes:
    """What a reader did to read a file that its owner should know: a sentence a kind, and how often."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def add(self, code: str, text: str, count: int = 1) -> None:
        """Notes `text`, a sentence without values of the file, under a stable `code`."""
        self.texts.setdefault(code, text)
        self.counts[code] += count


class Source(Protocol):
    """A file, or a folder of files, that is read once. `size`: bytes on the disk; `read`: how many of them
    were read so far, for progress."""

    path: Path
    notes: Notes
    size: int
    read: int

    def chunks(self) -> Iterator[Chunk]:
        """Every row, in bounded memory. Errors: `NotReadable`, after the rows before it were given."""
        ...
