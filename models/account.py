"""What is kept of a person's slates, as versioned plain data (`models.outcomes` says how it changes)."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.alphabet import Millis

VERSION: Final = 1

Counts = tuple[int, int, int, int]
"""Slots by `STATES`."""


class Unit(msgspec.Struct, array_like=True):
    """A person in a version of an experiment (hash of its id), under the variant they met first."""

    experiment: int
    version: int
    variant: int
    counts: Counts = (0, 0, 0, 0)


class Slate(msgspec.Struct, array_like=True):
    """An open slate. `items`: (n,) u64 LE by rank, distinct; `states`: of each, a bit a state."""

    id: int
    at: Millis
    placement: int
    items: bytes
    states: bytearray
    explored: int
    """Place of the item that exploration drew, -1: none."""
    units: tuple[int, ...]
    """Places in `Account.units`."""


class Outcome(msgspec.Struct, array_like=True):
    """An item of a slate came into `state` at `at`, its receipt."""

    item: int
    state: int
    at: Millis


class Waiting(msgspec.Struct, array_like=True):
    """Outcomes of a slate not seen yet, each (item, state) once, as of its first receipt."""

    slate: int
    outcomes: list[Outcome]


class Account(msgspec.Struct, array_like=True):
    """Of one person. `slates` by (at, id) ascending; `waiting` in the order they began to wait."""

    version: int = VERSION
    newest: Millis = 0
    """When the newest slate was served."""
    slates: list[Slate] = []
    waiting: list[Waiting] = []
    units: list[Unit] = []
    """Never forgotten: a unit that was would count as a new one."""


ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Account)


def decode(blob: bytes | None) -> Account:
    """As stored; an empty one where there is nothing. Errors: ValueError where it is of another
    version, or is none."""
    if not blob:
        return Account()
    try:
        account = _DECODER.decode(blob)
    except msgspec.MsgspecError:
        raise ValueError("a person's open slates cannot be read: rebuild") from None
    if account.version != VERSION:
        raise ValueError("a person's open slates are of another version: rebuild")
    return account


def encode(account: Account) -> bytes:
    return ENCODER.encode(account)
