"""A person's vector as stored: a cache, computed by a release from their last actions."""

from __future__ import annotations

from typing import Final

import msgspec


class Vector(msgspec.Struct, array_like=True, gc=False):
    """Comparable only with vectors of the same `release`: two spaces have nothing in common."""

    release: str
    complete: bool
    """The release had vectors of all items behind it; else a reader with more items encodes anew."""
    grid: bytes
    """(64,) int16 LE: each coordinate times `models.release.content.GRID`."""


DECODER: Final = msgspec.msgpack.Decoder(Vector)
ENCODER: Final = msgspec.msgpack.Encoder()
