"""Files of events and of items, whatever their layout, as sources of rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.datasets import delimited, files, lines, ndjson, parquet, tabular, text
from infra.datasets.columns import of_schema
from infra.datasets.fields import EVENTS, ITEMS, Schema
from infra.datasets.options import AS_IT_IS, ReadOptions
from infra.datasets.rows import Chunk, Notes, NotReadable, Source

_HEAD_LINES: Final = 10
"""So many say whether a file is NDJSON whose first line is damaged."""


def events(path: Path, options: ReadOptions = AS_IT_IS) -> Source:
    """The events in a file. It is opened by `chunks`, which raises what there is to raise."""
    return FileSource(path, options, EVENTS)


def items(path: Path, options: ReadOptions = AS_IT_IS) -> Source:
    """The items in a file. It is opened by `chunks`, which raises what there is to raise."""
    return FileSource(path, options, ITEMS)


class FileSource:
    """A file: NDJSON, delimited text with a header, or Parquet, as its first bytes say."""

    def __init__(self, path: Path, options: ReadOptions, schema: Schema) -> None:
        self.path, self.options, self.schema = path, options, schema
        self.notes = Notes()
        self.size = path.stat().st_size if path.is_file() else 0
        self.read = 0

    def chunks(self) -> Iterator[Chunk]:
        """Every row, in bounded memory. Errors: `NotReadable`, after the rows before it were given."""
        try:
            yield from self._chunks()
        except NotReadable as error:
            sentence = f"{self.path} {error.sentence}"
            raise NotReadable(sentence, remedy=error.remedy) from None

    def _chunks(self) -> Iterator[Chunk]:
        self.options = of_schema(self.options, self.schema)
        head, blocks = files.peek(files.blocks(self.path, self._progress), len(parquet.MAGIC))
        if head != parquet.MAGIC:
            return self._of_text(*text.utf8(blocks, self.options.encoding))
        if not self.path.is_file() or not _begins_with(self.path, parquet.MAGIC):
            raise NotReadable("is Parquet in other compression", remedy="unpack it into a file")
        self.read = 0
        return parquet.chunks(self.path, self.schema, self.options, self.notes, self._progress)

    def _of_text(self, blocks: Iterator[bytes], is_utf8: bool) -> Iterator[Chunk]:
        head, blocks = files.peek(blocks, lines.MAX_LINE_BYTES)
        if not head.strip():
            raise NotReadable("is empty", remedy="check that it was written")
        if b"\n" not in head and b"\r" in head[:-1]:
            head = head.replace(b"\r", b"\n")
            blocks = (block.replace(b"\r", b"\n") for block in blocks)
        found, first = lines.stretches(blocks), _first_lines(head)
        if _is_ndjson(first):
            return ndjson.chunks(found, self.schema, self.options, self.notes)
        decoder = text.Decoder(self.notes, is_utf8=is_utf8)
        named = {*self.options.columns.values()}
        by = delimited.delimiter(
            first[0].decode(errors="replace"),
            lambda name: name.strip() in named or self.schema.converter(name.strip()) is not None,
        )
        rows = delimited.Reader(by, decoder).rows(found)
        return tabular.with_header(rows, self.schema, self.options, self.notes)

    def _progress(self, count: int) -> None:
        self.read += count


def _first_lines(head: bytes) -> list[bytes]:
    """The first lines that are not blank, without blanks around them."""
    found = [it.strip() for it in head.split(b"\n", 10 * _HEAD_LINES)[: 10 * _HEAD_LINES]]
    return [it for it in found if it][:_HEAD_LINES] or [head.strip()]


def _is_ndjson(first: list[bytes]) -> bool:
    """Errors: `NotReadable` where it is JSON that has no object a line."""
    remedy = "write each object in a line of its own, as `jq -c` does"
    objects = sum(it.startswith(b"{") and it.endswith(b"}") for it in first)
    if objects * 2 >= len(first):
        return True
    if first[0].startswith(b"["):
        raise NotReadable("is one JSON array", remedy=f"{remedy} with '.[]'")
    if first[0] == b"{":
        raise NotReadable("is JSON with one object over several lines", remedy=remedy)
    return objects > 0 or first[0].startswith(b"{")


def _begins_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False
