"""A file of text, opened: its first lines, which say what it is, and all of them to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from infra.datasets import files, lines, parquet, text
from infra.datasets.lines import Stretch
from infra.datasets.rows import Notes, NotReadable
from infra.datasets.text import Decoder

HEAD_LINES: Final = 1_000
"""So many say what a file is."""
_HEAD_BYTES: Final = 1 << 20


class Opened(NamedTuple):
    """`head`: the first lines without blank ones; () for Parquet. `stretches`: every line."""

    path: Path
    head: tuple[str, ...]
    stretches: Iterator[Stretch]
    decoder: Decoder
    is_parquet: bool


def opened(path: Path, notes: Notes) -> Opened:
    """The file, plain or compressed, in whatever encoding. Errors: `NotReadable`, see `files.blocks`; also
    where it is empty."""
    head, blocks = files.peek(files.blocks(path, _no_progress), len(parquet.MAGIC))
    if head == parquet.MAGIC:
        return Opened(path, (), iter(()), Decoder(notes, is_utf8=True), True)
    found, is_utf8 = text.utf8(blocks, None)
    head, found = files.peek(found, _HEAD_BYTES)
    if not head.strip():
        raise NotReadable("is empty", remedy="check that it was written")
    if b"\n" not in head and b"\r" in head[:-1]:
        head = head.replace(b"\r", b"\n")
        found = (block.replace(b"\r", b"\n") for block in found)
    decoder = Decoder(notes, is_utf8=is_utf8)
    return Opened(path, _first(head), lines.stretches(found), decoder, False)


def _first(head: bytes) -> tuple[str, ...]:
    found = [it.strip(b"\r") for it in head.split(b"\n", HEAD_LINES + 1)]
    if len(found) > 1 and (len(head) == _HEAD_BYTES or len(found) > HEAD_LINES):
        found.pop()  # it is not whole
    return tuple(it.decode(errors="replace") for it in found[:HEAD_LINES] if it.strip())


def _no_progress(count: int) -> None:
    """What is read is not counted."""
