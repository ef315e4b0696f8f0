"""A person's vector as stored: a cache of what a release makes of their last actions."""

from __future__ import annotations

from typing import Final

import msgspec


class Vector(msgspec.Struct, array_like=True, gc=False):
    """Never to be compared with anything of another `release`: spaces have nothing in common."""

    release: str
    complete: bool
    """The release knew every item that speaks for them; else a reader that knows more encodes anew."""
    grid: bytes
    """(64,) int16 LE: each coordinate times `models.release.content.GRID`."""


DECODER: Final = msgspec.msgpack.Decoder(Vector)
ENCODER: Final = msgspec.msgpack.Encoder()
