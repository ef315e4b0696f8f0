"""The alphabet: the few words every other module is spelled with.

Times are integers, milliseconds since 1970-01-01 UTC, unless a name says otherwise.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, NewType

import msgspec

Pseudonym = NewType("Pseudonym", str)
"""32 hex digits that identify a person everywhere behind the edge (see `schemas.identity`)."""

Millis = int
"""Milliseconds since 1970-01-01 UTC."""

GivenId = Annotated[str, msgspec.Meta(max_length=256)]
"""An id of a person as a client sends it, which may be blank or a program's word for nothing:
`schemas.identity` refuses those by name."""


def between(least: float, most: float, *, above: bool = False) -> msgspec.Meta:
    """The bounds of a number, `above` without `least` itself, for its schema alone: a check that names the
    field holds it to them."""
    return msgspec.Meta(
        extra_json_schema={"exclusiveMinimum" if above else "minimum": least, "maximum": most}
    )


class Position(NamedTuple):
    """A place in the `events` log: what `POST /v1/events` answers and `after=` takes.

    Opaque to clients; written ``partition:offset``.

    >>> str(Position.parse("7:129341"))
    '7:129341'
    """

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raises ValueError unless `text` is ``partition:offset`` in plain decimal digits."""
        partition, colon, offset = text.partition(":")
        if not (
            colon
            and len(text) <= 32
            and partition.isascii()
            and partition.isdigit()
            and offset.isascii()
            and offset.isdigit()
        ):
            raise ValueError("not a position")
        return cls(int(partition), int(offset))
