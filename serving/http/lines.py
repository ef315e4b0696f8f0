"""Lines of a head or of trailers as they come, in pieces of any size."""

from __future__ import annotations

from serving.http.bounds import (
    MAX_HEADERS,
    MAX_HEADERS_BYTES,
    MAX_LINE_BYTES,
    headers_too_large,
    line_too_long,
    malformed_request,
)

_END = 2
"""Bytes of a line's end."""
_CARRIAGE_RETURN = 13


class Lines:
    """Counts lines until an empty one, and keeps none of them; its work is linear in the bytes.

    `first`: whether a request line comes before the headers. `instead`: what the problem of one that is too
    long says to do.
    """

    __slots__ = ("_bytes", "_first", "_headers", "_instead", "_line", "_previous")

    def __init__(self, *, first: bool, instead: str = "") -> None:
        self._first = first
        self._instead = instead
        self._headers = self._bytes = 0
        self._line = 0
        """Bytes of the line that has no end yet."""
        self._previous = 0
        """The last byte that came."""

    def take(self, data: bytes, at: int = 0) -> int:
        """Where in `data` the empty line ends that ends the block, or -1 where it has not come yet.

        Errors: `Problem` 400 for a line feed without its carriage return, 414, 431.
        """
        size = len(data)
        while at < size:
            feed = data.find(b"\n", at)
            end = size if feed < 0 else feed + 1
            self._line += end - at
            if feed < 0:
                self._check(self._line - 1)  # the last one may be a carriage return
                break
            if (data[feed - 1] if feed else self._previous) != _CARRIAGE_RETURN:
                raise malformed_request()
            if self._line == _END and not self._first:
                return end
            self._check(self._line - _END)
            self._complete()
            at = end
        self._previous = data[-1]
        return -1

    def _check(self, length: int) -> None:
        """`length`: of a line; of one that has no end yet it is the least."""
        if self._first:
            if length > MAX_LINE_BYTES:
                raise line_too_long(self._instead)
        elif length > MAX_LINE_BYTES or self._bytes + length > MAX_HEADERS_BYTES:
            raise headers_too_large()

    def _complete(self) -> None:
        if self._first:
            self._first = False
        else:
            self._headers += 1
            self._bytes += self._line
            if self._headers > MAX_HEADERS or self._bytes > MAX_HEADERS_BYTES:
                raise headers_too_large()
        self._line = 0
