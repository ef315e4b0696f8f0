"""`dead-letters`: records that no fold could take, with why. Keyed topic:partition:offset, so that
a repeat after a restart is the same letter."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.alphabet import Millis


class DeadLetter(msgspec.Struct, kw_only=True):
    topic: str
    partition: int
    offset: int
    reason: str
    """A stable snake_case word: what was wrong, never what was in it."""
    value: bytes | None
    """The record's bytes (base64 in JSON)."""
    record_at: Millis

    @property
    def key(self) -> bytes:
        return f"{self.topic}:{self.partition}:{self.offset}".encode()


DECODER: Final = msgspec.json.Decoder(DeadLetter)


def decode(value: bytes) -> DeadLetter:
    return DECODER.decode(value)
