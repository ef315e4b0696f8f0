"""What is kept of a person's slates and links, as versioned plain data (`models.outcomes.join` and
`models.outcomes.links` say how it changes)."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.alphabet import Millis
from schemas.version import Upgrades, current

VERSION: Final = 2

Counts = tuple[int, int, int, int]
"""Slots by `STATES`."""


class Unit(msgspec.Struct, array_like=True):
    """An id that was served, in a version of an experiment (hash of its id), under the variant it met
    first."""

    experiment: int
    version: int
    variant: int
    counts: Counts = (0, 0, 0, 0)


class OpenSlate(msgspec.Struct, array_like=True):
    """An open slate. `items`: (n,) u64 LE by rank, distinct; `states`: of each, a bit a state."""

    id: int
    at: Millis
    placement: int
    items: bytes
    states: bytearray
    explored: int
    """Place of the item that exploration drew, -1: none."""
    units: tuple[int, ...]
    """Places in the `units` beside it."""


class Outcome(msgspec.Struct, array_like=True):
    """An item of a slate came into `state` at `at`, its receipt."""

    item: int
    state: int
    at: Millis


class Waiting(msgspec.Struct, array_like=True):
    """Outcomes of a slate not seen yet, each (item, state) once, as of its first receipt."""

    slate: int
    outcomes: list[Outcome]


class Guest(msgspec.Struct, array_like=True):
    """What the anonymous id `of` was shown, who turned out to be the person: as in an `Account`."""

    of: str
    newest: Millis = 0
    slates: list[OpenSlate] = []
    units: list[Unit] = []


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """The link of this name (its event id) of the anonymous id `of`, made at `at`."""

    of: str
    link: str
    at: Millis


class Links(msgspec.Struct, array_like=True):
    """Of who was linked, or had somebody linked to them."""

    to: str = ""
    """Whom this anonymous id was linked to, "" nobody: they keep its slates."""
    first: Mark | None = None
    """The earliest of the links that have arrived and won."""
    pending: list[Mark] = []
    """Links that are on their way, in the order they were told of."""
    answered: list[Mark] = []
    """Links that arrived before they were told of."""
    guests: list[Guest] = []
    """In the order they came."""


class Account(msgspec.Struct, array_like=True):
    """Of one person. `slates` by (at, id) ascending; `waiting` in the order they began to wait."""

    version: int = VERSION
    newest: Millis = 0
    """When the newest slate was served."""
    slates: list[OpenSlate] = []
    waiting: list[Waiting] = []
    units: list[Unit] = []
    """Never forgotten: a unit that was would count as a new one."""
    since: Millis = 0
    """When the first slate was served; 0: none was."""
    links: Links | None = None


ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Account)


class _Versioned(msgspec.Struct, array_like=True):
    version: int


_VERSIONED: Final = msgspec.msgpack.Decoder(_Versioned)


def decode(blob: bytes | None) -> Account:
    """As stored; an empty one where there is nothing. Errors: ValueError where it is of another
    version, or is none."""
    if not blob:
        return Account()
    try:
        return _DECODER.decode(upgraded(blob))
    except msgspec.MsgspecError:
        raise ValueError("a person's open slates cannot be read: rebuild") from None


def upgraded(blob: bytes) -> bytes:
    """An account as stored by this version or the one before, as one of this.

    Errors: ValueError for another version; `msgspec.MsgspecError` where it is none.
    """
    # the version comes first in an array of fewer than 16
    held = blob[1] if len(blob) > 1 and blob[0] >> 4 == 9 else _VERSIONED.decode(blob).version
    return current("a person's open slates", held, VERSION, UPGRADES, blob)


def _with_links(blob: bytes) -> bytes:
    """Version 1 told neither of links nor since when: of slates that are gone only the newest's time is
    known."""
    account = _DECODER.decode(blob)
    account.version = 2
    account.since = account.slates[0].at if account.slates else account.newest
    return encode(account)


UPGRADES: Final[Upgrades[bytes]] = {1: _with_links}
"""Account as stored by the version before -> the same of this one (`schemas.version`)."""


def encode(account: Account) -> bytes:
    return ENCODER.encode(account)
