"""`dead-letters`: records that no fold could take, each with the reason. Keyed topic:partition:offset:index,
so that a repeat after a restart is the same letter; the index is that of a record in a frame, 0 for others.

Beside the letters lie marks of the same key: a run of the command claims the letter, and it has sent the
record once more. So the topic holds each letter's status, and of two claims the first one counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from schemas.alphabet import Millis
from schemas.headers import TRACEPARENT, Headers, Schema, traced, valid_traceparent

SCHEMA: Final = Schema("dead-letter", 1)
REDRIVEN: Final = "freshet-redriven"
"""Header of a record that was sent once more: the identity of its letter."""
TRIES: Final = "freshet-tries"
"""Header of such a record: how often it has been sent once more by now."""
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 8_192
"""Of names and values in a letter, together; Freshet's own are below 200."""


class Redrive(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A mark: the run `by` of the command claims the letter; with `sent` it has sent the record."""

    by: str
    at: Millis
    end: int
    """End offset of the record's partition at the claim: the record sent again lies there or beyond."""
    sent: int | None = None
    """The offset of the record sent again."""


class DeadLetter(msgspec.Struct, kw_only=True, omit_defaults=True):
    topic: str
    partition: int
    offset: int
    reason: str
    """A stable snake_case word: what was wrong, never what was in it."""
    value: bytes | None
    """The record's bytes (base64 in JSON); None where it had none, or too many for a letter."""
    record_at: Millis
    key: bytes | None = None
    """The record's key. Letters of before 2026-11-27 lack it."""
    size: int = 0
    """Length of the record's value in bytes, also where they are too many for a letter."""
    tries: int = 0
    """How often the record had been sent again before this letter."""
    headers: tuple[tuple[str, bytes | None], ...] = ()
    """The record's headers, in their order; values in base64 in JSON. Letters of before 2026-12 lack them."""
    headers_too_long: int = 0
    """How many of the record's headers the letter lacks, because of `MAX_HEADERS` or `MAX_HEADER_BYTES`."""
    index: int = 0
    """Of a record in a frame; letters of before frames lack it."""
    redrive: Redrive | None = None
    """On a mark, which is no letter of its own."""

    @property
    def identity(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}:{self.index}"

    @property
    def length(self) -> int:
        """Bytes of the record's value."""
        return self.size or len(self.value or b"")

    @property
    def own_headers(self) -> Headers:
        """Headers of the letter as a record: its schema, and the trace of the record in it."""
        values = [value for name, value in self.headers if name == TRACEPARENT]
        return traced(SCHEMA.headers, valid_traceparent(values))


DECODER: Final = msgspec.json.Decoder(DeadLetter)


def decode(value: bytes) -> DeadLetter:
    return DECODER.decode(value)


def encode(letter: DeadLetter) -> bytes:
    return msgspec.json.encode(letter)


def whole_identity(text: str) -> str:
    """The identity of a letter as it is now; before frames it had no index.

    >>> whole_identity("events:3:1200"), whole_identity("events:3:1200:7")
    ('events:3:1200:0', 'events:3:1200:7')
    """
    return f"{text}:0" if text.count(":") == 2 else text


def bounded_headers(
    headers: Iterable[tuple[str, bytes | None]],
) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    """The headers that a letter keeps, and how many it drops: one that is too long drops no other.

    >>> bounded_headers([("a", b"x"), ("b", b"x" * 9_000), ("c", None)])
    ((('a', b'x'), ('c', None)), 1)
    """
    kept: list[tuple[str, bytes | None]] = []
    size = dropped = 0
    for name, value in headers:
        length = len(name.encode()) + len(value or b"")
        if len(kept) < MAX_HEADERS and size + length <= MAX_HEADER_BYTES:
            kept.append((name, value))
            size += length
        else:
            dropped += 1
    return tuple(kept), dropped


def redriven_headers(
    identity: str, tries: int, headers: Iterable[tuple[str, bytes | None]]
) -> list[tuple[str, bytes]]:
    """Headers of a record that is sent once more: its own, the identity of its letter, and its tries.

    A value of None becomes b"": kafka-python cannot send None.
    """
    own = [(name, value or b"") for name, value in headers if name not in (REDRIVEN, TRIES)]
    return [*own, (REDRIVEN, identity.encode()), (TRIES, b"%d" % (tries + 1))]


def parse_tries(header: bytes | None) -> int:
    """The number in the header `TRIES`; 0 where there is no header, or no number in it.

    >>> parse_tries(b"2"), parse_tries(None), parse_tries(b"two"), parse_tries(b"-1")
    (2, 0, 0, 0)
    """
    return int(header) if header and header.isdigit() and len(header) < 10 else 0
