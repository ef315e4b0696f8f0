"""Text of any encoding as UTF-8, and the lines that are none."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from infra.datasets.files import peek
from infra.datasets.lines import Stretch
from infra.datasets.rows import Notes, NotReadable

_HEAD_BYTES: Final = 16
"""So many decide whether text without a mark is UTF-16: names of columns and keys are ASCII."""
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # its first half is the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BAD: Final = "freshet-bad-text"
_OPEN: Final = "freshet-open-byte"
_LATIN_1: Final = "cp1252"
"""What a file in latin-1 is read as (WHATWG Encoding): they differ in bytes that no text in latin-1 has."""
_REMEDY: Final = "name one as utf-8, utf-16, latin-1 or cp1252"


def _one_surrogate(error: UnicodeError) -> tuple[str, int]:
    """For what cannot be decoded: a character that UTF-8 refuses, so that the line is refused later."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udc80", error.end


def _as_controls(error: UnicodeError) -> tuple[str, int]:
    """For the five bytes that Windows-1252 leaves open: the control characters of ISO 8859-1, as browsers
    read them."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(_BAD, _one_surrogate)
codecs.register_error(_OPEN, _as_controls)


def utf8(found: Iterable[bytes], encoding: str | None) -> tuple[Iterator[bytes], bool]:
    """The blocks of a file in UTF-8 without a byte order mark, and whether that is certain: where nothing
    says or marks the encoding, a line may show that it is another. `encoding`: as it was said; None:
    recognised.

    What is no text in that encoding is no UTF-8 afterwards, either. Errors: `NotReadable`, as
    `files.blocks`; also for UTF-32 that is not said, and for an encoding that does not exist.
    """
    head, blocks = peek(found, _HEAD_BYTES)
    name = _recognised(head) if encoding is None else _existing(encoding)
    sure = encoding is not None or name != "utf-8" or head.startswith(codecs.BOM_UTF8)
    return _without_mark(blocks if name == "utf-8" else _decoded(blocks, name)), sure


def checked(stretch: Stretch) -> Stretch:
    """Without the lines that are no UTF-8, which are faults."""
    joined = b"\n".join(stretch.lines)
    if joined.isascii():
        return stretch
    try:
        joined.decode()
    except UnicodeDecodeError:
        return stretch.without(_no_utf8, "not_utf8")
    return stretch


class Decoder:
    """Decodes lines of delimited text whose encoding is not said: UTF-8 or latin-1, as most lines are of the
    first stretch that is not ASCII. In UTF-8 a line that is none is a fault."""

    def __init__(self, notes: Notes, *, is_utf8: bool) -> None:
        self.notes = notes
        self.encoding = "utf-8" if is_utf8 else ""

    def decode(self, stretch: Stretch) -> tuple[list[str], Stretch]:
        """The lines as text, and the stretch without those that are none."""
        joined = b"\n".join(stretch.lines)
        if joined.isascii():
            return joined.decode().split("\n") if stretch.lines else [], stretch
        if not self.encoding:
            self.encoding = _of_most(stretch.lines)
        if self.encoding == _LATIN_1:
            self._note(sum(not line.isascii() for line in stretch.lines))
        else:
            stretch = checked(stretch)
            joined = b"\n".join(stretch.lines)
        return joined.decode(self.encoding, _OPEN).split("\n") if stretch.lines else [], stretch

    def _note(self, count: int) -> None:
        text = (
            "lines that are not ASCII were read as latin-1 (Windows-1252), since most are no UTF-8"
        )
        self.notes.add("latin-1", text, count)


def _of_most(lines: Sequence[bytes]) -> str:
    """The encoding of some lines: latin-1 is hardly ever UTF-8 by chance."""
    others = [line for line in lines if not line.isascii()]
    return _LATIN_1 if 2 * sum(map(_no_utf8, others)) > len(others) else "utf-8"


def _no_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


def _recognised(head: bytes) -> str:
    for mark, name in _MARKS:
        if head.startswith(mark):
            if name == "utf-32":
                raise NotReadable("is UTF-32", remedy="convert it to UTF-8, or say so: utf-32")
            return name
    even, odd = head[::2], head[1::2]
    if len(odd) > 1 and not any(odd) and all(even[: len(odd)]):
        return "utf-16-le"
    if len(odd) > 1 and not any(even) and all(odd):
        return "utf-16-be"
    return "utf-8"


def _existing(encoding: str) -> str:
    try:
        found = codecs.lookup(encoding)
    except (LookupError, ValueError):
        raise NotReadable("cannot be read: no such encoding", remedy=_REMEDY) from None
    if not found._is_text_encoding or found.incrementaldecoder is None:
        raise NotReadable("cannot be read: that is no encoding of text", remedy=_REMEDY)
    if found.name in ("utf-8", "utf-8-sig", "ascii"):
        return "utf-8"
    return _LATIN_1 if found.name == "iso8859-1" else found.name


def _decoded(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(name)(_OPEN if name == _LATIN_1 else _BAD)
    try:
        for block in blocks:
            yield decoder.decode(block).encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")
    except UnicodeError:
        raise NotReadable("holds text that its encoding does not have", remedy=_REMEDY) from None


def _without_mark(blocks: Iterator[bytes]) -> Iterator[bytes]:
    head, blocks = peek(blocks, len(codecs.BOM_UTF8))
    skipped = len(head) if head == codecs.BOM_UTF8 else 0
    for block in blocks:  # the mark may lie in several
        yield block[skipped:]
        skipped -= min(skipped, len(block))
