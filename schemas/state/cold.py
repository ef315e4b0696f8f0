"""The cold tier: people not seen for long, whose records lie in the lake and not in Redis (law 6).

A tombstone replaces the records: it names the object that holds them. Moving there and back changes no
byte of a record, so no fold depends on it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.alphabet import Millis


class SweepRequest(msgspec.Struct, array_like=True):
    """A sweep that an operator requests: of every person not seen since `before`."""

    id: str
    before: Millis


class Cold(msgspec.Struct, array_like=True):
    """Of a partition: how many people are cold, the id of the last sweep, and how many people it moved."""

    people: int = 0
    done: str = ""
    moved: int = 0


_REQUEST: Final = msgspec.msgpack.Decoder(SweepRequest)
_COLD: Final = msgspec.msgpack.Decoder(Cold)


def decode_request(stored: bytes | None) -> SweepRequest | None:
    """Errors: `msgspec.MsgspecError`."""
    return _REQUEST.decode(stored) if stored else None


def decode(stored: bytes | None) -> Cold:
    """Errors: `msgspec.MsgspecError`."""
    return _COLD.decode(stored) if stored else Cold()


def encode(value: SweepRequest | Cold) -> bytes:
    return msgspec.msgpack.encode(value)
