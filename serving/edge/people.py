"""From the bytes of a request about a person to records of `events`. Pure: no clock, no socket."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from schemas import events
from schemas.alphabet import Id, Millis
from schemas.events import Link, Linking, Preferences
from schemas.identity import check_id
from schemas.record import Record
from serving.edge.identity import Identity, People
from serving.edge.items import check_ids
from serving.http.body import decode

MAX_PREFERENCES_LISTED: Final = 1000


class PreferencesIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """All preferences of a person: one that is missing here is reset."""

    personalized: bool = True
    liked_categories: tuple[str, ...] = ()
    hidden_categories: tuple[str, ...] = ()
    hidden_items: tuple[str, ...] = ()
    hidden_owners: tuple[str, ...] = ()


class LinkIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The anonymous id that is linked to the user of the path."""

    anonymous_id: Id


_PREFERENCES: Final = msgspec.json.Decoder(PreferencesIn)
_LINK: Final = msgspec.json.Decoder(LinkIn)


def preferences(body: bytes, user_id: str, event_id: str, now: Millis, people: People) -> Record:
    """The record of a person's preferences. Errors: `Problem`, `Rejected`."""
    parsed = decode(body, _PREFERENCES)
    for field in ("liked_categories", "hidden_categories", "hidden_items", "hidden_owners"):
        check_ids(getattr(parsed, field), field, MAX_PREFERENCES_LISTED)
    person = people.user(user_id)
    preferred = Preferences(
        event_id=event_id,
        person=person.pseudonym,
        received_at=now,
        **msgspec.structs.asdict(parsed),
    )
    return _record(person, preferred)


class Linked(NamedTuple):
    """Two records. `link`: of the anonymous person, for the partition that has their actions. `mark`: of the
    user; write it once the link is durable, since a mark without its link would wait for ever."""

    link: Record
    mark: Record


def link(body: bytes, user_id: str, event_id: str, now: Millis, people: People) -> Linked:
    """The records that link the anonymous id of the body to a user. Errors: `Problem`, `Rejected`."""
    parsed = decode(body, _LINK)
    person = people.anonymous(check_id(parsed.anonymous_id, "anonymous_id"))
    user = people.user(user_id)
    link = Link(event_id=event_id, person=person.pseudonym, to=user.pseudonym, received_at=now)
    mark = Linking(person=user.pseudonym, of=person.pseudonym, link=event_id, received_at=now)
    return Linked(_record(person, link), _record(user, mark))


def _record(person: Identity, event: Preferences | Link | Linking) -> Record:
    return Record(person.key, person.partition, events.encode(event))
