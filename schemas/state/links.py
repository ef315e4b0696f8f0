"""The links of an id, as readers need them (`models.outcomes.links` makes them)."""

from __future__ import annotations

from typing import Final

import msgspec


class Links(msgspec.Struct, array_like=True, gc=False):
    """Of an anonymous id: `to`, the person it was linked to. Of a user: `first`, the anonymous id with which
    their variants are drawn ("": their own id), and how many links are `pending`. `by`: of an anonymous id,
    the event id of the link or unlink that last had an effect; "" where none had."""

    to: str = ""
    first: str = ""
    pending: int = 0
    by: str = ""


NONE: Final = Links()
_DECODER: Final = msgspec.msgpack.Decoder(Links)
_ENCODER: Final = msgspec.msgpack.Encoder()
_FIRST_OF_ARRAYS: Final = 0x90


def decode(value: bytes | None) -> Links:
    """The stored links; `NONE` where there are none. Errors: `msgspec.MsgspecError`, `UnicodeDecodeError`."""
    if not value:
        return NONE
    if value[0] < _FIRST_OF_ARRAYS:
        return Links(value.decode())  # before the third version of the fold: `to` alone, as text
    return _DECODER.decode(value)


def encode(links: Links) -> bytes:
    return _ENCODER.encode(links)
