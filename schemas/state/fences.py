"""The fence: a flow's position in a partition, written in the same transaction as its state."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.alphabet import Millis


class Fence(msgspec.Struct, array_like=True, gc=False):
    """Law 8. `offset` is the next one to fold: the state holds exactly the records before it."""

    topic_id: str
    """A recreated topic has another id: the same offsets are other records."""
    partitions: int
    offset: int
    newest: Millis
    """Highest record timestamp (the producer's clock) folded so far."""
    version: int
    """Version of the fold that wrote it; `HELD` while a repair of the partition replaces the fold."""
    committed_at: Millis = 0
    """The committer's clock, ms: shows how late the flow runs; no fold reads it."""


HELD: Final = 0
DECODER: Final = msgspec.msgpack.Decoder(Fence)
ENCODER: Final = msgspec.msgpack.Encoder()


def decode(value: bytes) -> Fence:
    return DECODER.decode(value)


def encode(fence: Fence) -> bytes:
    return ENCODER.encode(fence)
