"""`events`: everything a person does, and everything said about them, in one order.

JSON, keyed by the person's pseudonym, with the type of the record in `kind`. These are the records behind
the edge, already enriched; what a client sends is `EventIn`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec

from schemas.actions import CLIENT_ACTIONS
from schemas.alphabet import GivenId, Millis, Pseudonym, between
from schemas.api.patterns import Id, ItemId
from schemas.headers import Schema
from schemas.record_time import bound
from schemas.times import TimeText

SCHEMA: Final = Schema("event", 1)
MAX_RANK: Final = 1_000_000
MAX_DWELL_MS: Final = 2**40
MAX_VALUE: Final = 1e12
"""Of the field `value` and of the ends of a scale: sums of many stay finite and exact to the unit."""
MAX_QUANTITY: Final = 1_000_000
SURE: Final = 1.0
"""Propensity of what was not drawn. As a default it is left out of a record that holds this very object."""
Scalar = str | int | float | bool | None
ActionName: Any = Literal[CLIENT_ACTIONS]
Person = Annotated[Pseudonym, msgspec.Meta(min_length=32, max_length=32)]
# rows keep seconds in 32 bits: the log takes no time outside 1970 to 2100
Time = Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000)]


# for the schema alone: `serving.edge` checks these
_END: Final = between(-MAX_VALUE, MAX_VALUE)
_CURRENCY: Final = msgspec.Meta(description="a code of ISO 4217 in capitals, such as EUR")
_EXACT: Final = between(-(2**53), 2**53)
_ContextValue = (
    Annotated[str, msgspec.Meta(extra_json_schema={"maxLength": 256})]
    | Annotated[int, _EXACT]
    | Annotated[float, _EXACT]
    | bool
    | None
)
_CONTEXT: Final = msgspec.Meta(
    extra_json_schema={"maxProperties": 32, "propertyNames": {"maxLength": 256}}
)


class Scale(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True, gc=False):
    """The scale of a rating. A value below `middle` speaks against the item; without one it is the mean of
    `min` and `max`."""

    min: Annotated[float, _END]
    max: Annotated[float, _END]
    middle: Annotated[float, _END] | None = None


class EventIn(
    msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False
):
    """One event as a client sends it. Times are RFC 3339. The raw id of the person goes no further.

    `event_id` names an event of a person together with `item_id`, `action` and the sign of a purchase's
    value, for 24 hours: a retry counts once, and the lines of an order may share it.

    `value`: of a `rate` on its `scale`, else on that of the settings; below the middle it speaks against the
    item, and without a value it does not. Of a `purchase` the price of the whole line in `currency`
    (ISO 4217); below 0 it takes a purchase back. Of a `cart` anything. Of other actions it is dropped.
    """

    item_id: ItemId
    action: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(CLIENT_ACTIONS)})]
    user_id: GivenId | None = None
    anonymous_id: GivenId | None = None
    event_id: Id | None = None
    session_id: Id | None = None
    occurred_at: TimeText | None = None
    slate_id: Id | None = None
    rank: Annotated[int, between(0, MAX_RANK)] | None = None
    value: Annotated[float, between(-MAX_VALUE, MAX_VALUE)] | None = None
    scale: Scale | None = None
    currency: Annotated[str, _CURRENCY] | None = None
    quantity: Annotated[int, between(1, MAX_QUANTITY)] | None = None
    dwell_ms: Annotated[float, between(0, MAX_DWELL_MS)] | None = None
    context: Annotated[dict[str, _ContextValue], _CONTEXT] | None = None
    # accepted and ignored, since the server's own log counts (API.md, Experiments)
    experiments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    variant: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    propensity: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Source(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """How an event came in, as the edge saw it: for statistics, fraud and training."""

    client: str = ""
    """The client that sent it; "" where it gave no name."""
    mode: Literal["live", "import"] = "live"
    agent: Literal["server", "browser"] = "server"


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
    """Of a rating, a purchase or another action that takes a value, as the client sent it; null where the
    action takes none."""
    scale: Scale | None = None
    """Of a rating: the scale that it was judged by."""
    negative: bool = False
    """A rating below the middle of its scale, or a purchase that is taken back (a value below 0)."""
    amount: int = 0
    """Of a purchase: what the whole line cost, in minor units of `currency`, at least 0."""
    currency: str = ""
    """ISO 4217; "" where none is given."""
    quantity: int = 1
    dwell_ms: int | None = None
    context: dict[str, Scalar] | None = None
    clamped: bool = False
    """`occurred_at` lay more than 5 min ahead of the server and was set to `received_at`."""
    group: str = ""
    """The item's `group_id` when the edge saw the event; "" where it had none."""
    source: Source | None = None
    """None: a server without a name, live."""


class Preferences(
    msgspec.Struct, tag_field="kind", tag="preferences", omit_defaults=True, kw_only=True
):
    """All preferences of a person: they replace the earlier ones."""

    event_id: str
    person: Person
    received_at: Time
    personalized: bool = True
    liked_categories: tuple[str, ...] = ()
    hidden_categories: tuple[str, ...] = ()
    hidden_items: tuple[str, ...] = ()
    hidden_owners: tuple[str, ...] = ()


class Link(msgspec.Struct, tag_field="kind", tag="link", omit_defaults=True, kw_only=True):
    """The anonymous id `person` belongs to the person `to`. The first link of an anonymous id wins."""

    event_id: str
    person: Person
    to: Person
    received_at: Time


class Unlink(msgspec.Struct, tag_field="kind", tag="unlink", omit_defaults=True, kw_only=True):
    """The anonymous id `person` no longer belongs to the person `to`: its record starts empty. Without
    effect where it belongs to another."""

    event_id: str
    person: Person
    to: Person
    received_at: Time


class Listed(msgspec.Struct, tag_field="kind", tag="listed", omit_defaults=True, kw_only=True):
    """Items that were put after events on them: this partition's facts of them count from here on.

    A mark of the roll-up, one for each partition that holds such facts. It concerns no person.
    """

    items: tuple[int, ...]
    """Hashes, `schemas.identity.item_hash`."""
    received_at: Time

    @property
    def person(self) -> Pseudonym:
        return Pseudonym("")

    @property
    def event_id(self) -> str:
        return ""


class MergedAction(msgspec.Struct, array_like=True, gc=False):
    """One remembered action that is sent to the person: enough for the ring and the seen set."""

    item: int
    category: int
    at: Millis
    action: int
    identity: int = 0
    flags: int = 0
    """Of its entry in the list (`models.features.ring`)."""


def merge_number(text: bytes) -> tuple[int, int]:
    """(offset, n), the number of a merge among those of its source, from ``offset-n`` as keys and streams
    hold it. Errors: ValueError."""
    offset, _, n = text.rpartition(b"-")
    return int(offset), int(n)


class Assigned(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An experiment that took part in a slate: its version, and the person's variant."""

    experiment: str
    version: int
    variant: str


class Served(
    msgspec.Struct, tag_field="kind", tag="served", omit_defaults=True, kw_only=True, gc=False
):
    """What a slate showed a person, compact; the whole decision is in `slates`. Only serving writes it, so
    its experiments and probabilities are those that the server drew, never a client's claim.
    """

    person: Person
    slate_id: str
    placement: str
    received_at: Time
    items: tuple[str, ...]
    """Item ids, by rank from 1."""
    explored: int = 0
    """Rank of the item that exploration drew; 0: none."""
    probability: float = SURE
    """Propensity of the item in that slot."""
    experiments: tuple[Assigned, ...] = ()
    took_ms: float = 0.0
    fallback: str = ""
    """The reason for a lesser answer; "": none."""
    release: str = ""
    session_id: str = ""
    """The session that the request named."""
    sources: tuple[str, ...] = ()
    """By rank: the source that brought the item."""
    swapped: tuple[int, ...] = ()
    """Ranks of the items that a rule put in place of the greedy choice."""

    @property
    def event_id(self) -> str:
        """The id for de-duplication; no id of a client equals it, since those hold no NUL."""
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
    """Counts of the anonymous id in an experiment so far (`models.outcomes.open_slates.Unit`)."""

    experiment: int
    version: int
    variant: int
    counts: tuple[int, ...]
    """By `schemas.state.facts.STATES`; a record of before has the first four."""


class MergedOutcome(msgspec.Struct, array_like=True, gc=False):
    """An outcome of a slate that is not counted yet. `identity`: of its purchase, 0: of another action;
    `repeated`: that purchase came before, and named no slate then."""

    slate: int
    item: int
    state: int
    at: Millis
    identity: int = 0
    repeated: bool = False


class MergedConversion(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The slot that a purchase converted (`models.outcomes.open_slates.Conversion`)."""

    of: str
    slate: int
    placement: int
    explored: bool
    state: int
    units: tuple[int, ...]
    """Places in the merge's `units`."""


class MergedReversible(msgspec.Struct, array_like=True, gc=False):
    """A purchase that can be taken back (`models.outcomes.open_slates.Reversible`)."""

    identity: int
    item: int
    action: int
    at: int
    """When it occurred, s."""
    counted: bool
    amount: int = 0
    currency: int = 0
    quantity: int = 1
    conversion: MergedConversion | None = None
    pending: int = 0
    """Receipt (s) of a purchase that names no slate and found no slot so far; else 0."""
    taken_back: bool = False


class MergedReversal(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A refund or an `unlike`: it takes back the newest `action` (its code) on the item. `known`: the edge
    had the item in its catalogue, so it is listed in the person's partition, too."""

    item: int
    action: int
    known: bool = False


class MergedImpression(msgspec.Struct, array_like=True, gc=False):
    """An item that the anonymous id was shown: how often, and when last (s)."""

    item: int
    count: int
    last: int


class Merge(msgspec.Struct, tag_field="kind", tag="merge", omit_defaults=True, kw_only=True):
    """The state of an anonymous id, sent to the person it was linked to, through the outbox (law 7).

    Numbered (`source`, `offset`, `n`) by the partition that emitted it; the receiver keeps the
    highest number per source and drops the rest. It holds the whole state of the anonymous id at the link,
    in several records where that is much, or one later record of that id. What the anonymous id counted is
    not counted again; its open slates, and its uncounted outcomes, are the person's from here on.
    """

    person: Person
    source: int
    offset: int
    n: int
    received_at: Time
    of: str = ""
    """The anonymous id."""
    link: str = ""
    """Event id of the link, on the last of its records; "" on every other."""
    lost: bool = False
    """The anonymous id had been linked before, so this link has no effect."""
    counts: tuple[int, ...] = ()
    """How often per action code."""
    entered: int = 0
    """How many actions ever entered the ring."""
    first: Millis = 0
    newest: Millis = 0
    recent: tuple[MergedAction, ...] = ()
    seen: tuple[tuple[int, int, int] | int, ...] = ()
    """(item, Unix s, bits) as `models.seen` has them, beside those of `recent`; an item alone in the records
    of before, which say no more."""
    hidden: tuple[int, ...] = ()
    """Hidden items in the records of before; none has been written since."""
    impressions: tuple[MergedImpression, ...] = ()
    slates: tuple[MergedSlate, ...] = ()
    units: tuple[MergedUnit, ...] = ()
    outcomes: tuple[MergedOutcome, ...] = ()
    touched: bytes = b""
    """Slots that were clicked or displayed (`models.outcomes.touched`)."""
    unit_sets: tuple[tuple[int, ...], ...] = ()
    """Sets of places in `units`, which rows of `touched` name by their index."""
    reversibles: tuple[MergedReversible, ...] = ()
    """Purchases that can be taken back."""
    likes: bytes = b""
    """Those that can be taken back (`models.outcomes.likes`)."""
    served: Served | None = None
    """A slate of the anonymous id whose record came after the link."""
    acted: MergedReversible | None = None
    """A purchase of the anonymous id after the link; its outcome, if it names a slate, is in `outcomes`."""
    reversal: MergedReversal | None = None
    """A refund or an `unlike` of the anonymous id after the link."""


class Linking(msgspec.Struct, tag_field="kind", tag="linking", omit_defaults=True, kw_only=True):
    """The anonymous id `of` is being linked to the person: a mark in the person's partition, so that reads
    know that a merge is pending. The `Link` itself, with event id `link`, lies in the other partition."""

    person: Person
    of: Person
    link: str
    received_at: Time

    @property
    def event_id(self) -> str:
        """The id for de-duplication; no id of a client equals it, since those hold no NUL."""
        return f"\0link\0{self.of}{self.link}"


Event = Action | Preferences | Link | Unlink | Merge | Served | Linking | Listed

DECODER: Final = msgspec.json.Decoder(Event)
ENCODER: Final = msgspec.json.Encoder()

EVERY_KIND: Final = (Action, Preferences, Link, Unlink, Merge, Served, Linking, Listed)
Kind = Literal["action", "preferences", "link", "unlink", "merge", "served", "linking", "listed"]


def decode(value: bytes, timestamp: Millis) -> Event:
    """The event in a record of the log: no time in it is later than `timestamp`, the record's own (law 14).

    Everything that reads the log reads it through this. Errors: `msgspec.DecodeError` (its text may quote
    the value: report its type, never its text).

    >>> of_2062 = encode(Preferences(event_id="e", person="a" * 32, received_at=2_900_000_000_000))
    >>> decode(of_2062, 1_760_000_000_000).received_at
    1760000000000
    """
    return decode_all((value,), (timestamp,))[0]


def decode_all(values: Iterable[bytes], timestamps: Iterable[Millis]) -> list[Event]:
    """What `decode` returns for each record. Errors: those of `decode`."""
    found: list[Event] = list(map(DECODER.decode, values))
    for event, timestamp in zip(found, timestamps, strict=True):
        if event.__class__ is Action:  # nearly every event, and nearly none of them is ahead
            if event.occurred_at > timestamp or event.received_at > timestamp:
                bound(event, timestamp)
        elif event.received_at > timestamp or event.__class__ is Merge:
            bound(event, timestamp)
    return found


def decode_stored(value: bytes) -> Event:
    """The event in a value that is no record of the log: of a key or an outbox. Errors: those of `decode`."""
    event: Event = DECODER.decode(value)
    return event


def encode(event: Event) -> bytes:
    return ENCODER.encode(event)
