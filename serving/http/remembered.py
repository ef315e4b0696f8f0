"""The fields of the heads of plain requests that came before, byte for byte: what they say need not be parsed
again.

A client sends the same fields with each of its requests, but for the length of a body; its request line is
read anew. What plain bytes say depends on nothing else, so one table serves all connections of a process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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


_LINE: Final = re.compile(rb"(GET|POST) (/[!$%&'()*+,\-./0-9:;=?@A-Z_a-z~]*) HTTP/1\.1")
"""A request line of which there is nothing to think about."""


class RememberedFields(NamedTuple):
    """`length`: bytes of the body; None where none is announced."""

    headers: Mapping[bytes, bytes]
    length: int | None


class RememberedHead(NamedTuple):
    """`length`: bytes of the body."""

    head: Head
    length: int


class RememberedHeads:
    """The last `MAX_HEADS` blocks of fields that were kept, by their bytes."""

    def __init__(self) -> None:
        self._fields: dict[bytes, RememberedFields] = {}

    def get(self, written: bytes) -> RememberedHead | None:
        """What `written` says, from the first byte of the request line to the blank line; None where its
        fields are not kept, or its line is not plain."""
        end = written.find(b"\r\n")
        fields = self._fields.get(written[end:])
        line = _LINE.fullmatch(written, 0, end) if fields is not None else None
        if fields is None or line is None:
            return None
        method, target = line.groups()
        headers, length = fields
        if (length is None) != (method == b"GET"):
            return None
        return RememberedHead(Head(method, target, headers), length or 0)

    def keep(self, written: bytes, head: Head) -> None:
        """Keeps what the fields of `written` say, if they may come again. `head`: what it says."""
        fields = written[written.find(b"\r\n") :]
        if len(fields) > MAX_HEAD_BYTES or not _OF_ONE.isdisjoint(head.headers):
            return
        if len(self._fields) >= MAX_HEADS:
            del self._fields[next(iter(self._fields))]
        length = head.headers.get(b"content-length")
        self._fields[fields] = RememberedFields(
            head.headers, None if length is None else int(length)
        )
