"""`events`: everything a person does, and everything said about them, in one order.

JSON, keyed by the person's pseudonym; `kind` tells the records apart. These are the records behind
the edge, already stamped; what a client sends is `EventIn`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from schemas.actions import ACTIONS
from schemas.alphabet import Id, Millis, Pseudonym
from schemas.headers import Schema

SCHEMA: Final = Schema("event", 1)
Scalar = str | int | float | bool | None
ActionName: Any = Literal[tuple(action.name for action in ACTIONS)]
Person = Annotated[Pseudonym, msgspec.Meta(min_length=32, max_length=32)]
# rows keep seconds in 32 bits: the log takes no time outside 1970 to 2100
Time = Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000)]


class EventIn(
    msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False
):
    """One event as a client sends it. Times are RFC 3339; who acted is a raw id, which stops here."""

    item_id: Id
    action: str
    user_id: Id | None = None
    anonymous_id: Id | None = None
    event_id: Id | None = None
    session_id: Id | None = None
    occurred_at: str | None = None
    slate_id: Id | None = None
    rank: int | None = None
    value: float | None = None
    dwell_ms: int | None = None
    context: dict[str, Scalar] | None = None
    # what the server logged counts; these are accepted and ignored (API.md, Experiments)
    experiments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    variant: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    propensity: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Action(
    msgspec.Struct, tag_field="kind", tag="action", omit_defaults=True, kw_only=True, gc=False
):
    """A person acted on an item."""

    event_id: str
    person: Person
    item_id: str
    action: ActionName
    occurred_at: Time
    received_at: Time
    """The edge's clock; for an import the event's own time (law 13)."""
    category: str = ""
    """The item's primary category when the edge saw the event; "" where it had none."""
    known: bool = False
    """The item was in the catalogue when the edge saw the event."""
    session_id: str = ""
    slate_id: str = ""
    rank: int | None = None
    value: float | None = None
    dwell_ms: int | None = None
    context: dict[str, Scalar] | None = None
    clamped: bool = False
    """`occurred_at` lay more than 5 min ahead of the server and was set to `received_at`."""


class Preferences(
    msgspec.Struct, tag_field="kind", tag="preferences", omit_defaults=True, kw_only=True
):
    """What a person asked for, whole: it replaces what they asked for before."""

    event_id: str
    person: Person
    received_at: Time
    personalized: bool = True
    liked_categories: tuple[str, ...] = ()
    hidden_categories: tuple[str, ...] = ()
    hidden_items: tuple[str, ...] = ()
    hidden_owners: tuple[str, ...] = ()


class Link(msgspec.Struct, tag_field="kind", tag="link", omit_defaults=True, kw_only=True):
    """The anonymous `person` turned out to be `to`. A record of the anonymous id; the first wins."""

    event_id: str
    person: Person
    to: Person
    received_at: Time


class MergedAction(msgspec.Struct, array_like=True, gc=False):
    """One remembered action on its way to the person it belongs to: enough for list and seen set."""

    item: int
    category: int
    at: Millis
    action: int


def merge_number(text: bytes) -> tuple[int, int]:
    """Of a merge among those of its source, as keys and streams hold it: ``offset-n``.

    Errors: ValueError.
    """
    offset, _, n = text.rpartition(b"-")
    return int(offset), int(n)


class Assigned(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An experiment that had a say in a slate: its version, and the variant the person is in."""

    experiment: str
    version: int
    variant: str


class Served(
    msgspec.Struct, tag_field="kind", tag="served", omit_defaults=True, kw_only=True, gc=False
):
    """What a slate showed a person, compact; the whole decision is in `slates`. Only serving writes it,
    so what it says of experiments and probabilities is what the server drew, never what a client claims.
    """

    person: Person
    slate_id: str
    placement: str
    received_at: Time
    items: tuple[str, ...]
    """Item ids, by rank from 1."""
    explored: int = 0
    """Rank of the item that exploration drew; 0: none."""
    probability: float = 1.0
    """With which that slot came to hold what it holds."""
    experiments: tuple[Assigned, ...] = ()

    @property
    def event_id(self) -> str:
        """What de-duplication knows it by; no client can name an event so, ids hold no NUL."""
        return "\0" + self.slate_id


class MergedSlate(msgspec.Struct, array_like=True, gc=False):
    """A slate that is still open, by hashes, with the states of its slots (`models.outcomes.open_slates`)."""

    id: int
    at: Millis
    placement: int
    items: tuple[int, ...]
    states: tuple[int, ...]
    explored: int
    units: tuple[int, ...]
    """Places in the merge's `units`."""


class MergedUnit(msgspec.Struct, array_like=True, gc=False):
    """What was counted of the anonymous id in an experiment so far (`models.outcomes.open_slates.Unit`)."""

    experiment: int
    version: int
    variant: int
    counts: tuple[int, int, int, int]


class MergedOutcome(msgspec.Struct, array_like=True, gc=False):
    """Something came of a slate, and nothing was counted of it yet."""

    slate: int
    item: int
    state: int
    at: Millis


class MergedImpression(msgspec.Struct, array_like=True, gc=False):
    """An item they were shown: how often, and when last (s)."""

    item: int
    count: int
    last: int


class Merge(msgspec.Struct, tag_field="kind", tag="merge", omit_defaults=True, kw_only=True):
    """What an anonymous id did, sent to the person it was linked to, through the outbox (law 7).

    Numbered (`source`, `offset`, `n`) by the partition that emitted it; the receiver keeps the
    highest number per source and drops the rest. It holds all that was known when the link came, in
    several records where that is much, or what came later, a record of theirs each. What was counted
    there is not counted again; open slates, and outcomes nobody counted, are the person's from here on.
    """

    person: Person
    source: int
    offset: int
    n: int
    received_at: Time
    of: str = ""
    """The anonymous id."""
    link: str = ""
    """Event id of the link that this ends, the last of its records; "": it ends none."""
    lost: bool = False
    """The anonymous id had been linked before: nothing comes of this link."""
    counts: tuple[int, ...] = ()
    """How often per action code."""
    entered: int = 0
    """How many actions ever entered the list of recent ones."""
    first: Millis = 0
    newest: Millis = 0
    recent: tuple[MergedAction, ...] = ()
    seen: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    impressions: tuple[MergedImpression, ...] = ()
    slates: tuple[MergedSlate, ...] = ()
    units: tuple[MergedUnit, ...] = ()
    outcomes: tuple[MergedOutcome, ...] = ()
    served: Served | None = None
    """A slate of theirs whose record came after the link."""


class Linking(msgspec.Struct, tag_field="kind", tag="linking", omit_defaults=True, kw_only=True):
    """The anonymous id `of` is being linked to the person: a mark in their own partition, beside the
    `Link` (its event id is `link`) in the other one, so that reads know that a merge is pending."""

    person: Person
    of: Person
    link: str
    received_at: Time

    @property
    def event_id(self) -> str:
        """What de-duplication knows it by; no client can name an event so, ids hold no NUL."""
        return f"\0link\0{self.of}{self.link}"


Event = Action | Preferences | Link | Merge | Served | Linking

DECODER: Final = msgspec.json.Decoder(Event)
ENCODER: Final = msgspec.json.Encoder()

EVERY_KIND: Final = (Action, Preferences, Link, Merge, Served, Linking)
Kind = Literal["action", "preferences", "link", "merge", "served", "linking"]


def decode(value: bytes) -> Event:
    """The event in a record's value. Errors: `msgspec.DecodeError` (its text may quote the value:
    report its type, never its text)."""
    event: Event = DECODER.decode(value)
    return event


def encode(event: Event) -> bytes:
    return ENCODER.encode(event)
