"""One partition of `events`, record by record: people, sums, received merges."""

from __future__ import annotations

from collections import Counter

from models.features.ring import BACK, COUNTED
from models.outcomes.join import REACH
from models.outcomes.purchases import REPEATED_ORDER
from models.outcomes.touched import Reach
from models.reference import plain
from models.reference.before import SnapshotState
from models.reference.dedupe import Window
from models.reference.outcome_records import LIKE, PURCHASE, attributes, concerns
from models.reference.outcomes import ReferenceOutcomes
from models.reference.people import Person
from models.reference.recents import MAX_ITEMS
from models.reference.sample import Sample
from models.reference.strangers import ReferenceStrangers
from models.reference.sums import Sums
from models.reference.waiting import WaitingReference
from schemas.events import (
    Action,
    Event,
    Link,
    Linking,
    Listed,
    Merge,
    MergedAction,
    Preferences,
    Served,
    Unlink,
)
from schemas.times import DAY_MS


class Partition:
    """`window`: of de-duplication, ms; `max_seen`: seen items that a compaction keeps. `sums` takes the facts
    of all people; where it is None from the beginning, only merges, and records of people in reach of
    `sample`, are needed; the others `pass_over`. `strangers`: how many a partition keeps, of those who were
    shown slates from the offset `since` on, 0: none. `before`: the state before the first record, None at the
    log's beginning."""

    def __init__(
        self,
        window: int,
        sample: Sample,
        sums: Sums | None = None,
        before: SnapshotState | None = None,
        reach: Reach = REACH,
        waiting: WaitingReference | None = None,
        max_seen: int = MAX_ITEMS,
        strangers: int = 0,
        since: int = 0,
    ) -> None:
        self.received = dict(before.received) if before else {}
        """Source partition -> highest (offset, n) received from its outbox."""
        self.tallies: Counter[str] = Counter(before.tallies if before else {})
        """Reason -> how many records were accepted and are not counted."""
        self.ids = before.window(window) if before else Window(window)
        self.sums = sums
        self.waiting = waiting or WaitingReference()
        """What waits for items; of use only with `sums`."""
        self.sample = sample
        self._before, self._reach, self._max_seen = before, reach, max_seen
        self.strangers = ReferenceStrangers(strangers, reach, before.strangers if before else None)
        self._since = since
        self._met: set[str] = set(before.met if before and strangers else ())
        """Who did something, or was linked."""
        self.people = {name: self._new(name, True) for name in self._drawn()}
        """The checked people, and all others with a record."""

    def take(self, offset: int, timestamp: int, e: Event) -> None:
        """Takes the record at `offset`, of record time `timestamp` (ms)."""
        self.ids.passed(timestamp)
        self.waiting.advance(self.ids.newest // DAY_MS)
        if isinstance(e, Merge):
            self._merge(offset, e)
        elif isinstance(e, Listed):
            if self.sums is not None:
                for item in e.items:
                    self.waiting.include(item, self.sums)
        elif self.ids.fresh(e, timestamp):
            self._apply(offset, e)
        elif isinstance(e, Action):
            self.tallies["duplicate"] += 1
            person = self._person(e.person)
            person.duplicates += 1
            if attributes(e):
                self._add(person, person.concern(offset, e, repeated=True))
        else:
            self.tallies[f"duplicate_{e.__struct_config__.tag}"] += 1

    @property
    def checked(self) -> dict[str, Person]:
        return {name: person for name, person in self.people.items() if person.kept is not None}

    def _apply(
        self, offset: int, e: Action | Preferences | Link | Unlink | Linking | Served
    ) -> None:
        if isinstance(e, Unlink) and not self._has_record(e.person):
            return  # nothing to end, and nothing is stored of it
        if isinstance(e, Served) and self._is_stranger(offset, e.person):
            self._add_facts(self.strangers.serve(offset, e))
            return
        if isinstance(e, Served) or _acts(e):
            self._meet(e.person)
        person, counted = self.people.get(e.person) or self._person(e.person), False
        copy = False
        if isinstance(e, Action):
            act = plain.event(offset, e)
            if person.came_with_a_merge(act):
                copy = act.action == LIKE
                if act.action != PURCHASE:  # else its person's outcomes say so
                    self.tallies[REPEATED_ORDER] += 1
            else:
                found = person.act(act)
                counted = found.counts
                if found.why_not:
                    self.tallies[found.why_not] += 1
                if self.sums is not None and counted:
                    self.waiting.fact(act, found.partners, self.sums)
        elif isinstance(e, Preferences):
            person.preferences = e
        elif isinstance(e, Unlink):
            self.people[e.person] = person.after(e)
        if concerns(e):
            self._add(person, person.concern(offset, e, counted, copy))  # type: ignore[arg-type]

    def pass_over(self, offset: int, timestamp: int, e: Event) -> None:
        """Takes of a record whose person is not checked, where no sums are made, what decides who is a
        stranger. No merge may pass."""
        self.ids.passed(timestamp)
        if not self.strangers.limit:
            return
        if isinstance(e, Served):
            if self.ids.fresh(e, timestamp):
                if self._is_stranger(offset, e.person):
                    self.strangers.pass_over(e.person)
                else:
                    self._met.add(e.person)
        elif _acts(e):
            self._met.add(e.person)
            self.strangers.meet(e.person)

    def _is_stranger(self, offset: int, name: str) -> bool:
        """Whether they have done nothing yet, and their name is a pseudonym's."""
        known = not self.strangers.limit or name in self._met or offset < self._since
        return not known and set(name) <= set("0123456789abcdef")

    def _meet(self, name: str) -> None:
        """Notes that somebody did something, or was linked: what is kept of a stranger is theirs now."""
        if not self.strangers.limit or name in self._met:
            return
        self._met.add(name)
        if outcomes := self.strangers.meet(name):
            person = self._person(name)
            person.outcomes, person.shown = outcomes, True
            if person.kept is None:
                outcomes.shown.clear()

    def _has_record(self, name: str) -> bool:
        return name in self.people or (self._before is not None and name in self._before.names)

    def _drawn(self) -> list[str]:
        """The checked people of the snapshot: they may have no later record."""
        drawn: dict[str, None] = {}
        for name in self._before.names if self._before else ():
            chosen, out = self.sample.take(name)
            if chosen:
                drawn[name] = None
            if out is not None:
                del drawn[out]
        return list(drawn)

    def _new(self, name: str, kept: bool) -> Person:
        if self._before:
            return self._before.person(name, kept, self._reach, self._max_seen)
        return Person(kept, reach=self._reach, max_seen=self._max_seen)

    def _person(self, name: str) -> Person:
        person = self.people.get(name)
        if person is None:
            taken, out = self.sample.take(name)
            person = self.people[name] = self._new(name, taken)
            if out is not None:
                self.people[out].kept = None
        return person

    def _merge(self, offset: int, merge: Merge) -> None:
        """An outbox may repeat a record: only higher numbers count."""
        number = (merge.offset, merge.n)
        if number > self.received.get(merge.source, (-1, 0)):
            self.received[merge.source] = number
            self._meet(merge.person)
            person = self._person(merge.person)
            reversal = merge.reversal
            if self.sums is not None and reversal is not None and reversal.known:
                self.waiting.include(reversal.item, self.sums)
            repeated = person.repeated(merge)
            self._take_back(repeated)
            if outcomes := person.merge(offset, merge, repeated):
                self._add(person, outcomes)

    def _take_back(self, repeated: list[MergedAction]) -> None:
        """Takes back the facts of actions that count already."""
        if repeated:
            self.tallies[REPEATED_ORDER] += len(repeated)
        for it in repeated:
            if self.sums is not None and it.flags & COUNTED and not it.flags & BACK:
                self.waiting.back(it.item, it.at // 1000, it.action, self.sums)

    def _add(self, person: Person, outcomes: ReferenceOutcomes) -> None:
        """Adds the new facts of a person's slates to the sums."""
        self._add_facts(outcomes)
        for taken in outcomes.taken:
            person.take_back(*taken)
        outcomes.taken.clear()
        self.tallies.update(outcomes.tallies)
        outcomes.tallies.clear()
        if person.kept is None:
            outcomes.shown.clear()

    def _add_facts(self, outcomes: ReferenceOutcomes) -> None:
        if self.sums is not None:
            self.sums.slots(outcomes)
            for _, item, time, action in outcomes.backs:
                self.waiting.back(item, time, action, self.sums)
        outcomes.arms.clear()
        outcomes.moments.clear()
        outcomes.money.clear()
        outcomes.backs.clear()


def _acts(e: Event) -> bool:
    """Whether its person does something, or is linked to another."""
    return isinstance(e, Action | Linking) or (isinstance(e, Link) and e.to != e.person)
