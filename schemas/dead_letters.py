"""`dead-letters`: records that no fold could take, with why. Keyed topic:partition:offset, so that
a repeat after a restart is the same letter.

Beside the letters lie marks of the same key: that somebody sends the record once more, and that it was
sent. So the topic itself says what became of a letter, and of two that claim it the first one has it.
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
    """A mark: `by`, a run of the command, sends the record once more; with `sent` it has."""

    by: str
    at: Millis
    end: int
    """Where the record's partition ended before: what was sent lies there or beyond."""
    sent: int | None = None
    """The offset that it got."""


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
    """How often it had been sent once more before it came here."""
    headers: tuple[tuple[str, bytes | None], ...] = ()
    """The record's headers, in their order; values in base64 in JSON. Letters of before 2026-12 lack them."""
    headers_too_long: int = 0
    """How many of its headers are not here: with them it would be more than `MAX_HEADERS` or
    `MAX_HEADER_BYTES`."""
    redrive: Redrive | None = None
    """On a mark, which is no letter of its own."""

    @property
    def identity(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def length(self) -> int:
        """Bytes of the record's value."""
        return self.size or len(self.value or b"")

    @property
    def own_headers(self) -> Headers:
        """Of the letter as a record: its schema, and the trace of the record that it is about."""
        values = [value for name, value in self.headers if name == TRACEPARENT]
        return traced(SCHEMA.headers, valid_traceparent(values))


DECODER: Final = msgspec.json.Decoder(DeadLetter)


def decode(value: bytes) -> DeadLetter:
    return DECODER.decode(value)


def encode(letter: DeadLetter) -> bytes:
    return msgspec.json.encode(letter)


def bounded(
    headers: Iterable[tuple[str, bytes | None]],
) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    """Those that a letter takes, and how many it does not: one that is too long keeps no other out.

    >>> bounded([("a", b"x"), ("b", b"x" * 9_000), ("c", None)])
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


def redriven(
    identity: str, tries: int, headers: Iterable[tuple[str, bytes | None]]
) -> list[tuple[str, bytes]]:
    """Headers of a record that is sent once more: its own, and of which letter it is.

    A value of None becomes b"": kafka-python sends no other.
    """
    own = [(name, value or b"") for name, value in headers if name not in (REDRIVEN, TRIES)]
    return [*own, (REDRIVEN, identity.encode()), (TRIES, b"%d" % (tries + 1))]


def tries(header: bytes | None) -> int:
    """What the header `TRIES` says; 0 where there is none, or anything else stands in it.

    >>> tries(b"2"), tries(None), tries(b"two"), tries(b"-1")
    (2, 0, 0, 0)
    """
    return int(header) if header and header.isdigit() and len(header) < 10 else 0
