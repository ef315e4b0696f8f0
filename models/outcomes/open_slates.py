"""The state of a person's slates, purchases and links, as versioned plain data (`models.outcomes.join`,
`models.outcomes.purchases` and `models.outcomes.links` change it)."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import msgspec
from msgspec.structs import astuple

from models.outcomes import layout
from models.outcomes.layout import UNREADABLE, Plain
from schemas.alphabet import Millis
from schemas.version import Upgrades, upgrade

VERSION: Final = layout.VERSION

Counts = tuple[int, int, int, int, int, int]
"""Slots by `STATES`."""
NO_COUNTS: Final[Counts] = (0, 0, 0, 0, 0, 0)


class Unit(msgspec.Struct, array_like=True):
    """An id that was served, in a version of an experiment (hash of its id), with its first variant."""

    experiment: int
    version: int
    variant: int
    counts: Counts = NO_COUNTS


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
    identity: int = 0
    """Of a purchase: the `identity` of its `Reversible`; 0: of another action."""


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
    touched: bytes = b""
    unit_sets: list[tuple[int, ...]] = []


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


class Conversion(msgspec.Struct, array_like=True, frozen=True):
    """The slot that a purchase converted. `of`: the guest to whom it was served, "" for the account's own
    id; `slate`: the low 32 bits of its id; `state`: index into `STATES`; `units`: as of an `OpenSlate`."""

    of: str
    slate: int
    placement: int
    explored: bool
    state: int
    units: tuple[int, ...]


class Converted(msgspec.Struct, array_like=True, frozen=True):
    """The conversion of the purchase with this identity and item."""

    identity: int
    item: int
    conversion: Conversion


class Reversible(msgspec.Struct):
    """A purchase that can be taken back (stored by `models.outcomes.reversibles`), or a like that was.

    `identity`: the low 32 bits of its action's identity, 0 of a like; `action`: its code; `at`: when it
    occurred, s; `counted`: it made a fact; `amount` in minor units of `currency`
    (`schemas.state.facts.currency_code`, 0: none).
    """

    identity: int
    item: int
    action: int
    at: int
    counted: bool
    amount: int = 0
    currency: int = 0
    quantity: int = 1
    conversion: Conversion | None = None
    pending: int = 0
    """Receipt (s) of a purchase that names no slate and found no slot: a record of one may still come; else
    0."""
    taken_back: bool = False
    """It counts no more; a copy of it that comes later does not either."""


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
    touched: bytes = b""
    """Slots that were clicked or displayed, also those of no open slate (`models.outcomes.touched`)."""
    unit_sets: list[tuple[int, ...]] = []
    """The sets of units that rows of `touched` name by their index."""
    conversions: list[Converted] = []
    """Of purchases that can be taken back, by (identity, item)."""
    reversibles: bytes = b""
    """Purchases (`models.outcomes.reversibles`), stored under a key of their own."""
    oldest: int = 0
    """When the oldest of them occurred, s; 0: there is none."""
    likes: bytes = b""
    """`models.outcomes.likes`, stored under a key of its own."""


Holder = Account | Guest
"""What has slates and units of one id."""

_Rest = tuple[list[Waiting], Links | None, list[Converted]]
"""What few people have."""
_ENCODER: Final = msgspec.msgpack.Encoder()
_REST: Final = msgspec.msgpack.Decoder(_Rest)
_MAX_VERSION: Final = 0x7F
_WHOLE: Final = bytes((layout.WHOLE,))
_STORED: Final = attrgetter(*Account.__struct_fields__[:-3])
_BEFORE: Final = msgspec.msgpack.Decoder(Account)
"""Of all fields up to `conversions`, as an array: version 3, and what does not fit `layout`."""


def decode(blob: bytes | None) -> Account:
    """The stored account without its `reversibles` and `likes`; an empty one where nothing is stored. Errors:
    ValueError for one of another version, and for other bytes."""
    if not blob:
        return Account()
    blob = upgraded(blob)
    if blob[1:2] == _WHOLE:
        return _decode_whole(blob[2:])
    held = layout.read(blob)
    try:
        waiting, links, conversions = _REST.decode(held.rest) if held.rest else ([], None, [])
    except msgspec.MsgspecError:
        raise ValueError(UNREADABLE) from None
    if held.links != (links is not None):
        raise ValueError(UNREADABLE)
    return Account(
        newest=held.newest,
        slates=[OpenSlate(*each) for each in held.slates],
        waiting=waiting,
        units=[Unit(*each) for each in held.units],  # type: ignore[arg-type]
        since=held.since,
        links=links,
        touched=held.touched,
        unit_sets=list(held.sets),
        conversions=conversions,
    )


def upgraded(blob: bytes) -> bytes:
    """An account as stored by this version, or by one that `UPGRADES` names, in this version.

    Errors: ValueError for another version, and for other bytes.
    """
    # until version 3 an array of fewer than 16, its version first
    held = blob[1] if len(blob) > 1 and blob[0] >> 4 == 9 else blob[0]
    if held > _MAX_VERSION:
        raise ValueError(UNREADABLE)
    return upgrade("a person's open slates", held, VERSION, UPGRADES, blob)


def _decode_whole(packed: bytes) -> Account:
    try:
        return msgspec.structs.replace(_BEFORE.decode(packed), version=VERSION)
    except msgspec.MsgspecError:
        raise ValueError(UNREADABLE) from None


UPGRADES: Final[Upgrades[bytes]] = {3: lambda blob: encode(_decode_whole(blob))}
"""Account as stored by the version before -> the same account in this version (`schemas.version`)."""


def encode(account: Account) -> bytes:
    """All of it but the `reversibles` and `likes`."""
    waiting, links, conversions = account.waiting, account.links, account.conversions
    guests = links.guests if links is not None else []
    rare = bool(waiting or conversions) or links is not None
    packed = layout.write(
        Plain(
            account.newest,
            account.since,
            [astuple(slate) for slate in account.slates],
            [astuple(unit) for unit in account.units],
            account.touched,
            account.unit_sets,
            _ENCODER.encode((waiting, links, conversions)) if rare else b"",
            others=bool(waiting or (links and links.to) or any(it.slates for it in guests)),
            links=links is not None,
        )
    )
    if packed is not None:
        return packed
    return bytes((VERSION, layout.WHOLE)) + _ENCODER.encode(_STORED(account))


def is_blank(account: Account) -> bool:
    """Whether nothing of it is stored, but for the `reversibles` and `likes`."""
    return not (
        account.newest
        or account.waiting
        or account.links is not None
        or account.slates
        or account.units
        or account.touched
        or account.conversions
    )
