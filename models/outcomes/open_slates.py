"""The state of a person's slates and links, as versioned plain data (`models.outcomes.join` and
`models.outcomes.links` change it)."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.alphabet import Millis
from schemas.version import Upgrades, upgrade

VERSION: Final = 2

Counts = tuple[int, int, int, int]
"""Slots by `STATES`."""


class Unit(msgspec.Struct, array_like=True):
    """An id that was served, in a version of an experiment (hash of its id), with its first variant."""

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
    """Index of the item that exploration drew, -1: none."""
    units: tuple[int, ...]
    """Indices into the `units` of the account or guest."""


class Outcome(msgspec.Struct, array_like=True):
    """An item of a slate came into `state`; `at`: the receipt of the action."""

    item: int
    state: int
    at: Millis


class Waiting(msgspec.Struct, array_like=True):
    """Outcomes of a slate not seen yet, each (item, state) once, as of its first receipt."""

    slate: int
    outcomes: list[Outcome]


class Guest(msgspec.Struct, array_like=True):
    """Slates and units of the anonymous id `of`, which was linked to the person: as in an `Account`."""

    of: str
    newest: Millis = 0
    slates: list[OpenSlate] = []
    units: list[Unit] = []


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """The link with the event id `link`, of the anonymous id `of`, made at `at`."""

    of: str
    link: str
    at: Millis


class Links(msgspec.Struct, array_like=True):
    """Links of an anonymous id (`to`), or of a person."""

    to: str = ""
    """The person that this anonymous id was linked to, who keeps its slates; "": none."""
    first: Mark | None = None
    """The earliest of the answered links that won."""
    pending: list[Mark] = []
    """Links without an answer, in the order of their marks."""
    answered: list[Mark] = []
    """Links whose answer came before their mark."""
    guests: list[Guest] = []
    """In the order of their arrival."""
    by: str = ""
    """Of an anonymous id: event id of the link or unlink that last had an effect."""


class Account(msgspec.Struct, array_like=True):
    """The slates and links of one person. `slates` by (at, id) ascending; `waiting`: oldest first."""

    version: int = VERSION
    newest: Millis = 0
    """When the newest slate was served."""
    slates: list[OpenSlate] = []
    waiting: list[Waiting] = []
    units: list[Unit] = []
    """Never dropped: a dropped unit would count as a new one."""
    since: Millis = 0
    """When the first slate was served; 0: none was served."""
    links: Links | None = None


ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Account)


class _Versioned(msgspec.Struct, array_like=True):
    version: int


_VERSIONED: Final = msgspec.msgpack.Decoder(_Versioned)


def decode(blob: bytes | None) -> Account:
    """The stored account; an empty one where nothing is stored. Errors: ValueError for one of another
    version, and for other bytes."""
    if not blob:
        return Account()
    try:
        return _DECODER.decode(upgraded(blob))
    except msgspec.MsgspecError:
        raise ValueError("a person's open slates cannot be read: rebuild") from None


def upgraded(blob: bytes) -> bytes:
    """An account as stored by this version or the one before, in this version.

    Errors: ValueError for another version; `msgspec.MsgspecError` for other bytes.
    """
    # the version comes first in an array of fewer than 16
    held = blob[1] if len(blob) > 1 and blob[0] >> 4 == 9 else _VERSIONED.decode(blob).version
    return upgrade("a person's open slates", held, VERSION, UPGRADES, blob)


def _with_links(blob: bytes) -> bytes:
    """Version 1 had neither `links` nor `since`: without open slates the time of the newest is the best."""
    account = _DECODER.decode(blob)
    account.version = 2
    account.since = account.slates[0].at if account.slates else account.newest
    return encode(account)


UPGRADES: Final[Upgrades[bytes]] = {1: _with_links}
"""Account as stored by the version before -> the same account in this version (`schemas.version`)."""


def encode(account: Account) -> bytes:
    return ENCODER.encode(account)
