"""Files of events and of items, whatever their layout, as sources of rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from infra.datasets.options import AS_IT_IS, ReadOptions
from infra.datasets.rows import Chunk, Notes, NotReadable, Source

BLOCK_BYTES = 1 << 20


def events(path: Path, options: ReadOptions = AS_IT_IS) -> Source:
    """The events in a file. It is opened by `chunks`, which raises what there is to raise."""
    return TextFile(path, options)


def items(path: Path, options: ReadOptions = AS_IT_IS) -> Source:
    """The items in a file. It is opened by `chunks`, which raises what there is to raise."""
    return TextFile(path, options)


class TextFile:
    """A file of lines."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path, self.options = path, options
        self.notes = Notes()
        self.size = path.stat().st_size if path.is_file() else 0
        self.read = 0

    def chunks(self) -> Iterator[Chunk]:
        """Every row, in bounded memory. Errors: `NotReadable`, after the rows before it were given."""
        line, pending = 1, b""
        try:
            with self.path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    self.read += len(block)
                    *whole, pending = (pending + block).split(b"\n")
                    yield _chunk(whole, line)
                    line += len(whole)
                yield _chunk([pending], line)
        except OSError as error:
            raise NotReadable(f"{self.path} cannot be read: {error.strerror}") from None


def _chunk(lines: list[bytes], first: int) -> Chunk:
    numbers = [number for number, line in enumerate(lines, first) if line.strip()]
    return Chunk([line for line in lines if line.strip()], numbers, [])
