"""Transfer-Encoding: chunked (RFC 9112, 7.1), taken off as it comes.

The parser behind it sees one chunk for all that came together, and neither extensions nor trailers, whose
lines it would join without a bound.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from serving.http.bounds import MAX_LENGTH_DIGITS, MAX_LINE_BYTES
from serving.http.errors import Problem, malformed
from serving.http.lines import Lines

MAX_CHUNKS_AT_ONCE: Final = 250
"""Taken in one turn of the event loop: small chunks cost the most, and other connections have their turn."""
MAX_EXCESS_BYTES: Final = 16 * 1024
"""Of size lines, above `FREE_BYTES` and twice the content of each chunk (so Go's net/http bounds them)."""
FREE_BYTES: Final = 16
_END: Final = b"\r\n"
_SIZE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,%d})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n" % MAX_LENGTH_DIGITS
)


class Taken(NamedTuple):
    """`content`: without its framing. `used`: bytes of the piece. `complete`: the body has ended."""

    content: bytes
    used: int
    complete: bool


class Chunks:
    """The framing of one body. Its work is linear in the bytes, and it keeps one incomplete line."""

    def __init__(self) -> None:
        self._remaining = 0
        """Bytes of the current chunk that are still to come, its line end included."""
        self._line = bytearray()
        """A size line that has no end yet."""
        self._excess = 0
        self._trailers: Lines | None = None

    def take(self, data: bytes) -> Taken:
        """The content of a piece, of at most `MAX_CHUNKS_AT_ONCE` chunks. Errors: `Problem` 400, 431."""
        content: list[bytes] = []
        at = 0
        while at < len(data) and len(content) < MAX_CHUNKS_AT_ONCE:
            if self._trailers is not None:
                end = self._trailers.take(data, at)
                return Taken(b"".join(content), len(data) if end < 0 else end, end >= 0)
            of_chunk = self._remaining > 0
            at = self._take_chunk(data, at, content) if of_chunk else self._take_size(data, at)
        return Taken(b"".join(content), at, False)

    def _take_chunk(self, data: bytes, at: int, content: list[bytes]) -> int:
        size = self._remaining - len(_END)
        if size > 0:
            piece = data[at : at + size]
            content.append(piece)
            at += len(piece)
            self._remaining -= len(piece)
        if 0 < self._remaining <= len(_END):
            end = data[at : at + self._remaining]
            if not _END[-self._remaining :].startswith(end):
                raise _malformed()
            at += len(end)
            self._remaining -= len(end)
        return at

    def _take_size(self, data: bytes, at: int) -> int:
        if not self._line and (found := _SIZE.match(data, at)):
            self._start(found)
            return found.end()
        feed = data.find(b"\n", at)
        end = len(data) if feed < 0 else feed + 1
        self._line += data[at:end]
        if len(self._line) > MAX_LINE_BYTES:
            raise _malformed()
        if feed >= 0:
            found = _SIZE.fullmatch(self._line)
            if found is None:
                raise _malformed()
            self._start(found)
            self._line = bytearray()
        return end

    def _start(self, found: re.Match[bytes]) -> None:
        size = int(found[1], 16)
        line = found.end() - found.start()
        self._excess = max(0, self._excess + line - FREE_BYTES - 2 * size)
        if self._excess > MAX_EXCESS_BYTES or line > MAX_LINE_BYTES:
            raise _malformed()
        if size:
            self._remaining = size + len(_END)
        else:
            self._trailers = Lines(first=False)


def _malformed() -> Problem:
    return malformed("malformed_chunk", "The body's chunks can't be read.")
