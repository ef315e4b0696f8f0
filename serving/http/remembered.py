"""The heads of plain requests that came before, byte for byte: what they say need not be parsed again.

A client sends the same head with each of its requests, but for the length of the body. What plain bytes say
depends on nothing else, so one table serves all connections of a process.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from serving.http.head import Head

MAX_HEADS: Final = 1024
MAX_HEAD_BYTES: Final = 1024
_OF_ONE: Final = frozenset(
    (
        b"x-request-id traceparent tracestate baggage cookie forwarded from x-forwarded-for x-real-ip"
        b" referer"
    ).split()
)
"""Headers of one request or of one person: a head with any of them hardly comes again."""


class RememberedHead(NamedTuple):
    """`length`: bytes of the body."""

    head: Head
    length: int


class RememberedHeads:
    """The last `MAX_HEADS` heads that were kept, by their bytes."""

    def __init__(self) -> None:
        self._heads: dict[bytes, RememberedHead] = {}
        self.get = self._heads.get
        """What bytes say, from the first of the request line to the blank line; None where it is not kept."""

    def keep(self, written: bytes, head: Head) -> None:
        """Keeps what `written` says, if it may come again. `head`: it, with the length of its body."""
        if len(written) > MAX_HEAD_BYTES or not _OF_ONE.isdisjoint(head.headers):
            return
        if len(self._heads) >= MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[written] = RememberedHead(head, int(head.headers[b"content-length"]))
