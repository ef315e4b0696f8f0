"""The ledgers against the log: lost, unsent and out-of-order records. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from schemas import events
from schemas.events import Action, Link, Linking, Listed, Merge, Preferences, Served, Unlink
from tests.chaos import crowd
from tests.chaos.crowd import Crowd
from tests.chaos.ledger import Sent
from tests.chaos.ledgers import Ledgers, slates

FAULTS: Final = (
    "lost",
    "lost_slates",
    "lost_letters",
    "lost_marks",
    "unsent",
    "altered",
    "not_refused",
    "out_of_order",
    "false_letters",
    "merges_that_differ",
    "links_without_merge",
    "links_merged_twice",
    "unaccounted",
)
"""Counts that must be 0 after any run."""
EXAMPLES: Final = 5


class Row(NamedTuple):
    """A record of `events`, wherever it was read."""

    partition: int
    offset: int
    value: bytes | None
    timestamp: int
    """ms."""


class Pseudonyms(NamedTuple):
    """Raw id -> its pseudonym behind the edge."""

    user: Callable[[str], str]
    anonymous: Callable[[str], str]


@dataclass
class Found:
    """`counts` has every one of `FAULTS`; `examples` a few places of each that is not 0."""

    counts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(FAULTS, 0)))
    examples: dict[str, list[str]] = field(default_factory=dict)
    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    poison: int = 0
    unacknowledged: int = 0
    """Sent, and neither acknowledged nor in the log: no promise was made."""
    records: int = 0
    distinct: int = 0

    def wrong(self, what: str, where: str) -> None:
        self.counts[what] += 1
        examples = self.examples.setdefault(what, [])
        if len(examples) < EXAMPLES:
            examples.append(where)


def check(
    ledgers: Ledgers,
    log: Iterable[Row],
    letters: Sequence[bytes],
    who: Pseudonyms,
    made: Crowd,
) -> Found:
    """`log` partition by partition, each in its order; `letters`: the keys of all dead letters."""
    reading = _Reading(ledgers, who, made)
    for row in log:
        reading.take(row)
    return reading.found_with(letters)


class _Reading:
    def __init__(self, ledgers: Ledgers, who: Pseudonyms, made: Crowd) -> None:
        self._ledgers, self._who, self._made = ledgers, who, made
        self._found = Found()
        self._seen: dict[str, set[int]] = {name: set() for name in ledgers}
        self._poison_at: set[bytes] = set()
        self._slates: set[str] = set()
        self._merges: dict[tuple[int, int, int], bytes] = {}
        self._links: set[str] = set()
        self._marked: set[str] = set()
        self._merged: dict[str, set[tuple[int, int, int]]] = {}
        self._order = _Order(self._found)

    def take(self, row: Row) -> None:
        self._found.records += 1
        try:
            event = events.decode(row.value or b"", row.timestamp)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._take_poison(row)
            return
        if isinstance(event, Merge):
            self._take_merge(row, event)
        elif isinstance(event, Served):
            self._slates.add(event.slate_id)
        elif isinstance(event, Linking):
            self._take_linking(row, event)
        elif not isinstance(event, Listed):
            self._take_event(row, event)

    def _take_event(self, row: Row, event: Action | Preferences | Link | Unlink) -> None:
        named = crowd.named(event.event_id)
        sender = self._ledgers.get(named.sender) if named else None
        sent = sender.of(named.number) if sender and named else None
        if named is None or sender is None or sent is None:
            self._found.wrong("unsent", _place(row))
            return
        if self._made.is_refused(*named) and sent.what == "events":
            self._found.wrong("not_refused", _place(row))
        elif not _says(event, self._expected(sent, *named)):
            self._found.wrong("altered", _place(row))
        if isinstance(event, Link):
            self._links.add(event.event_id)
        seen = self._seen[named.sender]
        if named.number not in seen:
            seen.add(named.number)
            answer = sender.answered(sent)
            durable = answer.durable if answer else ""
            connection = answer.connection if answer else -1
            who = (event.person, named.sender)
            self._order.take(who, sent.request, connection, durable, _place(row))

    def _take_poison(self, row: Row) -> None:
        numbers = self._ledgers.get("poison")
        name = (row.value or b"").partition(b'"event_id":"')[2].partition(b'"')[0].decode()
        named = crowd.named(name)
        if not numbers or not named or numbers.of(named.number) is None:
            self._found.wrong("unsent", _place(row))
            return
        self._seen["poison"].add(named.number)
        self._poison_at.add(f"events:{row.partition}:{row.offset}:0".encode())
        if row.value != self._made.poison(named.number):
            self._found.wrong("altered", _place(row))

    def _take_merge(self, row: Row, merge: Merge) -> None:
        number = (merge.source, merge.offset, merge.n)
        if self._merges.setdefault(number, row.value or b"") != row.value:
            self._found.wrong("merges_that_differ", _place(row))

        if merge.link:
            self._merged.setdefault(merge.link, set()).add(number)

    def _take_linking(self, row: Row, mark: Linking) -> None:
        named = crowd.named(mark.link)
        sender = self._ledgers.get(named.sender) if named else None
        sent = sender.of(named.number) if sender and named else None
        if named is None or sent is None or sent.what != "link":
            self._found.wrong("unsent", _place(row))
            return
        expected = self._expected(sent, *named)
        if (mark.of, mark.person) != (expected["person"], expected["to"]):
            self._found.wrong("altered", _place(row))
        self._marked.add(mark.link)

    def _expected(self, sent: Sent, sender: str, number: int) -> dict[str, Any]:
        """The record that an event must become, field by field."""
        if sent.what == "preferences":
            user, body = self._made.preferences(sender, number)
            return {"person": self._who.user(user), **body}
        if sent.what == "link":
            user, body = self._made.link(sender, number)
            anonymous = self._who.anonymous(body["anonymous_id"])
            return {"person": anonymous, "to": self._who.user(user)}
        if sent.what == "unlink":
            body = sent.said()
            anonymous = self._who.anonymous(body["anonymous_id"])
            return {"person": anonymous, "to": self._who.user(body["user_id"])}
        body = sent.said() if sent.what == "outcome" else self._made.event(sender, number)
        named: str | None = body.get("user_id")
        person = self._who.user(named) if named else self._who.anonymous(body["anonymous_id"])
        fields = ("item_id", "action", "session_id", "slate_id")
        return {"person": person, **{name: body.get(name, "") for name in fields}}

    def found_with(self, letters: Sequence[bytes]) -> Found:
        found, there = self._found, set(letters)
        for name, sender in self._ledgers.items():
            seen = self._seen[name]
            acknowledged = {number for _, number in sender.acknowledged()}
            for number in sorted(acknowledged - seen):
                found.wrong("lost", crowd.name(name, number))
            numbers = {number for _, number in sender.numbers()}
            refused = sender.refused()
            for number in refused:
                if not self._made.is_refused(name, number):
                    found.wrong("not_refused", f"{crowd.name(name, number)} was refused")
            found.sent += len(numbers)
            found.acknowledged += len(acknowledged)
            found.refused += len(refused)
            found.unacknowledged += len(numbers - acknowledged - refused - seen)
            found.distinct += len(seen) if name != "poison" else 0
        found.poison = len(self._seen.get("poison", ()))
        for key in sorted(self._poison_at - there):
            found.wrong("lost_letters", key.decode())
        for key in sorted(there - self._poison_at):
            found.wrong("false_letters", key.decode(errors="replace"))
        self._find_links()
        for slate in slates(self._ledgers):
            if slate["slate_id"] not in self._slates:
                found.wrong("lost_slates", slate["slate_id"])
        arrived = found.distinct + found.poison + found.refused + found.unacknowledged
        lost = found.counts["lost"]
        if arrived + lost != found.sent:
            found.wrong("unaccounted", f"{found.sent} sent, {arrived} found, {lost} lost")
        return found

    def _find_links(self) -> None:
        """Each link has its mark with the person, and came to one end there."""
        for link in sorted(self._links):
            if link not in self._marked:
                self._found.wrong("lost_marks", link)
            merges = self._merged.get(link, set())
            if not merges:
                self._found.wrong("links_without_merge", link)
            elif len(merges) > 1:
                self._found.wrong("links_merged_twice", f"{link}: {sorted(merges)}")


class _Order:
    """The requests of a person lie in the log in the order of their acknowledgements.

    A request that the broker had before the next went out comes before it. One that lay in a spool does
    so before those that came over the same connection: another worker does not wait for that spool.
    """

    def __init__(self, found: Found) -> None:
        self._found = found
        self._latest: dict[tuple[str, str], int] = {}
        self._of_connection: dict[tuple[str, str, int], int] = {}

    def take(
        self, who: tuple[str, str], request: int, connection: int, durable: str, place: str
    ) -> None:
        """The next first occurrence in the log."""
        here = (*who, connection)
        latest = self._latest.get(who, -1) if durable == "broker" else -1
        if durable:
            latest = max(latest, self._of_connection.get(here, -1))
        if request < latest:
            self._found.wrong("out_of_order", place)
        self._latest[who] = max(self._latest.get(who, -1), request)
        self._of_connection[here] = max(self._of_connection.get(here, -1), request)


def _says(event: Any, expected: dict[str, Any]) -> bool:
    found: dict[str, Any] = {name: getattr(event, name, None) for name in expected}
    return all(
        list(is_) == list(found[name]) if isinstance(is_, list) else is_ == found[name]
        for name, is_ in expected.items()
    )


def _place(row: Row) -> str:
    return f"events {row.partition}:{row.offset}"


__all__ = ["FAULTS", "Found", "Pseudonyms", "Row", "check"]
