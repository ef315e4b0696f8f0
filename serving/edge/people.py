"""From the bytes of a request about a person to records of `events`. Pure: no clock, no socket."""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from schemas import events
from schemas.alphabet import Millis, Pseudonym
from schemas.api.patterns import ID, ITEM_ID, PersonId, Word, described
from schemas.events import Link, Linking, Preferences, Unlink
from schemas.identity import check_id, check_item_id
from schemas.record import Record
from schemas.state.links import Links
from serving.access.oauth import MAX_TOKEN_BYTES
from serving.edge.identity import Identity, People
from serving.edge.items import check_each, check_words
from serving.http.body import decode

MAX_PREFERENCES_LISTED: Final = 1000
Why = Literal["already", "linked_elsewhere", "is_a_user", "not_linked", "unlinked"]


# for the schema alone: `preferences` counts
_LISTED: Final = msgspec.Meta(extra_json_schema={"maxItems": MAX_PREFERENCES_LISTED})
_Words = Annotated[tuple[Word | None, ...], _LISTED]
_Items = Annotated[tuple[Annotated[str, described(ITEM_ID)], ...], _LISTED]
_Ids = Annotated[tuple[Annotated[str, described(ID)], ...], _LISTED]


class PreferencesIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """All preferences of a person: one that is missing here, or null, is reset."""

    personalized: bool | None = True
    liked_categories: _Words | None = ()
    hidden_categories: _Words | None = ()
    hidden_items: _Items | None = ()
    hidden_owners: _Ids | None = ()


class LinkIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The anonymous id that the user of the path is linked to, or no longer linked to. `anonymous_token`:
    for a link, the token of that id's browser, which shows that the id is the caller's own; who may write
    for anybody needs none."""

    anonymous_id: PersonId
    anonymous_token: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN_BYTES)] = ""


_CATEGORIES: Final = ("liked_categories", "hidden_categories")
_IDS: Final = {"hidden_items": check_item_id, "hidden_owners": check_id}
_PREFERENCES: Final = msgspec.json.Decoder(PreferencesIn)
_LINK: Final = msgspec.json.Decoder(LinkIn)


def preferences(body: bytes, user_id: str, event_id: str, now: Millis, people: People) -> Record:
    """The record of a person's preferences. Errors: `Problem`, `Rejected`."""
    parsed = decode(body, _PREFERENCES)
    lists = {
        field: check_words(getattr(parsed, field) or (), field, MAX_PREFERENCES_LISTED)
        for field in _CATEGORIES
    } | {
        field: check_each(getattr(parsed, field) or (), field, MAX_PREFERENCES_LISTED, check)
        for field, check in _IDS.items()
    }
    person = people.user(user_id)
    preferred = Preferences(
        event_id=event_id,
        person=person.pseudonym,
        received_at=now,
        personalized=parsed.personalized is not False,
        **lists,
    )
    return _record(person, preferred)


class LinkVerdict(NamedTuple):
    """Whether the anonymous id is linked to the user, and why that differs from what was asked or was so
    before; None: by this request."""

    linked: bool
    why: Why | None


IS_A_USER: Final = LinkVerdict(False, "is_a_user")


class Linked(NamedTuple):
    """Two records. `link`: of the anonymous person, for the partition that has their actions. `mark`: of the
    user; write it once the link is durable, since a mark without its link would wait for ever."""

    link: Record
    mark: Record


def anonymous_id(body: bytes) -> str:
    """The anonymous id of the body. Errors: `Problem`, `Rejected`."""
    return decode(body, _LINK).anonymous_id


def anonymous_token(body: bytes) -> str:
    """The token of the anonymous id, "" without one. Errors: `Problem`, `Rejected`."""
    return decode(body, _LINK).anonymous_token


def link(anonymous: str, user_id: str, event_id: str, now: Millis, people: People) -> Linked:
    """The records that link an anonymous id to a user."""
    person, user = people.anonymous(anonymous), people.user(user_id)
    link = Link(event_id=event_id, person=person.pseudonym, to=user.pseudonym, received_at=now)
    mark = Linking(person=user.pseudonym, of=person.pseudonym, link=event_id, received_at=now)
    return Linked(_record(person, link), _record(user, mark))


def unlink(anonymous: str, user_id: str, event_id: str, now: Millis, people: People) -> Record:
    """The record that ends the link of an anonymous id to a user, in the partition of the anonymous id."""
    person, user = people.anonymous(anonymous), people.user(user_id)
    end = Unlink(event_id=event_id, person=person.pseudonym, to=user.pseudonym, received_at=now)
    return _record(person, end)


def link_verdict(held: Links, user: Pseudonym, event_id: str) -> LinkVerdict:
    """What came of the link `event_id` to `user`, by the links of the anonymous id after its record."""
    if held.to == user:
        return LinkVerdict(True, None if held.by == event_id else "already")
    return LinkVerdict(False, "linked_elsewhere" if held.to else "unlinked")


def unlink_verdict(held: Links, user: Pseudonym, event_id: str) -> LinkVerdict:
    """What came of the unlink `event_id` from `user`, by the links of the anonymous id after its record."""
    if not held.to:
        return LinkVerdict(False, "unlinked" if held.by == event_id else "not_linked")
    if held.to == user:
        return LinkVerdict(True, "already")  # by a link after the unlink
    return LinkVerdict(False, "linked_elsewhere")


def without_others(verdict: LinkVerdict) -> LinkVerdict:
    """A verdict on an unlink for whoever showed no proof of the anonymous id: it does not say that the id is
    somebody else's."""
    return verdict._replace(why="not_linked") if verdict.why == "linked_elsewhere" else verdict


def _record(person: Identity, event: Preferences | Link | Unlink | Linking) -> Record:
    return Record(person.key, person.partition, events.encode(event))
