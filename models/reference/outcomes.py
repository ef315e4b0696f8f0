"""The outcomes of one person's slates, and of those of their anonymous ids, by plain lists of slates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import iter_unpack, pack
from typing import NamedTuple

from models.outcomes import open_slates
from models.outcomes.join import (
    MAX_GUESTS,
    MAX_OPEN_SLATES,
    MAX_WAITING_OUTCOMES,
    STATE_BY_ACTION,
    WINDOW_MS,
)
from models.outcomes.open_slates import Account
from models.reference import plain
from models.reference.dedupe import Name, name_of
from models.reference.links import ReferenceLinks
from schemas import events
from schemas.events import Action, Assigned, Link, Linking, Merge, Served
from schemas.state import links

FactRow = tuple[object, ...]
OutcomeRow = tuple[int, int, int]
"""Item, state, receipt in ms."""
UnitKey = tuple[int, int]
"""Experiment and version."""
Impression = tuple[int, int, int]
"""Item, how often it was shown, when last (s)."""
_MAX_VERSION = 0xFFFF


class ReferenceSlate(NamedTuple):
    """An open slate. `states`: of each item the states into which it came."""

    id: int
    at: int
    placement: int
    items: list[int]
    places: dict[int, int]
    """Index of each item in `items`."""
    states: list[set[int]]
    explored: int
    """Index of the item that exploration drew, -1: none."""
    units: list[UnitKey]


class Holder:
    """The open slates of one id, by time and id, and its units: variant and counts of each."""

    def __init__(self) -> None:
        self.slates: list[ReferenceSlate] = []
        self.units: dict[UnitKey, tuple[int, tuple[int, ...]]] = {}
        self.newest = 0

    def take(self, slate: ReferenceSlate) -> None:
        self.slates = sorted([*self.slates, slate], key=lambda held: (held.at, held.id))
        self.newest = max(self.newest, slate.at)

    def drop(self, oldest: int) -> None:
        self.slates = [slate for slate in self.slates if slate.at >= oldest][-MAX_OPEN_SLATES:]

    def enrolled(self, experiments: Iterable[Assigned]) -> list[UnitKey]:
        """The id's units in these experiments; a unit keeps its first variant."""
        found: dict[UnitKey, None] = {}
        for each in experiments:
            if 0 <= each.version <= _MAX_VERSION:
                unit = (plain.name(each.experiment), each.version)
                self.units.setdefault(unit, (plain.name(each.variant), (0, 0, 0, 0)))
                found[unit] = None
        return list(found)

    @classmethod
    def of(cls, held: Account | open_slates.Guest) -> Holder:
        """The stored slates and units of an account or guest."""
        made = cls()
        made.newest = held.newest
        made.units = {(it.experiment, it.version): (it.variant, it.counts) for it in held.units}
        units = list(made.units)
        made.slates = [_opened(slate, units) for slate in held.slates]
        return made

    def stored(self) -> tuple[list[open_slates.OpenSlate], list[open_slates.Unit]]:
        places = {unit: place for place, unit in enumerate(self.units)}
        return [_stored(slate, places) for slate in self.slates], [
            open_slates.Unit(*unit, variant, counts)  # type: ignore[arg-type]
            for unit, (variant, counts) in self.units.items()
        ]


class ReferenceOutcomes:
    """It takes the records for which `concerns` is true, in log order.

    `arms` and `moments`: the facts so far, as `(offset, placement, item, state, explored, sign, reward)` and
    `(offset, experiment, version, variant, before, after)`; the caller may clear both.
    """

    def __init__(self, records: Iterable[tuple[int, Served | Action]] = ()) -> None:
        self.own = Holder()
        self.guests: dict[str, Holder] = {}
        """Slates and units of the anonymous ids that were linked to this person."""
        self.waiting: list[tuple[int, list[OutcomeRow]]] = []
        self.links: ReferenceLinks | None = None
        self.arms: list[FactRow] = []
        self.moments: list[FactRow] = []
        self.lost = 0
        """Number of outcomes that do not count, without repeated ones."""
        self.shown: list[list[Impression]] = []
        """Impressions: a batch of each slate, and of each merge."""
        self._since = 0
        for offset, e in records:
            self.add(offset, e)

    @classmethod
    def begun(cls, by: str) -> ReferenceOutcomes:
        """The outcomes of an anonymous id whose link the event `by` ended."""
        made = cls()
        made._ensured_links().by = by
        return made

    @classmethod
    def of(cls, held: Account) -> ReferenceOutcomes:
        """The stored account; impressions are stored elsewhere."""
        made = cls()
        made.own, made._since = Holder.of(held), held.since
        made.waiting = [
            (it.slate, [(mark.item, mark.state, mark.at) for mark in it.outcomes])
            for it in held.waiting
        ]
        if held.links is not None:
            made.links = ReferenceLinks.of(held.links)
            made.guests = {guest.of: Holder.of(guest) for guest in held.links.guests}
        return made

    def add(self, offset: int, e: Served | Action) -> None:
        """Adds a slate or an outcome. After the id's link it counts for the person of the link."""
        gone = self.links is not None and self.links.to
        if isinstance(e, Action):
            if not gone:
                mark = (plain.item(e.item_id), STATE_BY_ACTION[e.action], e.received_at)
                self._act(offset, plain.text(e.slate_id), mark)
        elif gone:
            self._show(e)
        else:
            self._serve(offset, e)

    def close(self, to: str, by: str) -> None:
        """Closes the account of an id that the event `by` linked to `to`: its open slates move to that
        person."""
        held = self._ensured_links()
        held.to, held.by = to, by
        newest = self.own.newest
        self.own, self.waiting = Holder(), []
        self.own.newest = newest

    def linking(self, e: Linking) -> None:
        self._ensured_links().mark(e)

    def receive(self, offset: int, merge: Merge) -> None:
        """Adds the account of an anonymous id, or one record of it after its link."""
        if merge.slates or merge.units:
            self._take_in(offset, merge)
        for merged in merge.outcomes:
            self._act(offset, merged.slate, (merged.item, merged.state, merged.at))
        self._forget()
        if merge.served is not None:
            of = merge.served.person
            self._serve(offset, merge.served, of if of != merge.person else "")
        if merge.impressions:
            self.shown.append(
                [(merged.item, merged.count, merged.last) for merged in merge.impressions]
            )
        if merge.link:
            self._ensured_links().answer(merge)

    def account(self) -> Account:
        """The account to store."""
        slates, units = self.own.stored()
        return Account(
            newest=self.own.newest,
            since=self._since,
            slates=slates,
            waiting=[
                open_slates.Waiting(slate, [open_slates.Outcome(*mark) for mark in held])
                for slate, held in self.waiting
            ],
            units=units,
            links=self._stored_links(),
        )

    def view(self) -> links.Links | None:
        """The links as readers need them; None where there are none."""
        own = self.links
        if own is None:
            return None
        return links.Links(own.to, own.first(self._since), len(own.pending), own.by)

    # -- slates ---------------------------------------------------------------------------

    def _serve(self, offset: int, e: Served, guest: str = "") -> None:
        identifier = plain.text(e.slate_id)
        if self._find(identifier):
            return  # de-duplication forgot this slate, which is still open
        holder = self._guest(guest) if guest else self.own
        items = [plain.item(item) for item in dict.fromkeys(e.items)]
        places = {item: place for place, item in enumerate(items)}
        drawn = e.items[e.explored - 1] if 0 < e.explored <= len(e.items) else None
        slate = ReferenceSlate(
            identifier,
            e.received_at,
            plain.name(e.placement),
            items,
            places,
            [set() for _ in items],
            places[plain.item(drawn)] if drawn is not None else -1,
            holder.enrolled(e.experiments),
        )
        self._show(e)
        marks = [(item, 0, e.received_at) for item in items]
        self._mark(offset, holder, slate, marks + self._awaited(identifier))
        holder.take(slate)
        if holder is self.own:
            self._since = min(self._since or e.received_at, e.received_at)
        self._forget()

    def _show(self, e: Served) -> None:
        at = e.received_at // 1000
        self.shown.append([(plain.item(item), 1, at) for item in dict.fromkeys(e.items)])

    def _take_in(self, offset: int, merge: Merge) -> None:
        holder = self._guest(merge.of)
        named = [(unit.experiment, unit.version) for unit in merge.units]
        for unit, merged in zip(named, merge.units, strict=True):
            holder.units.setdefault(unit, (merged.variant, tuple(merged.counts)))
        for held in merge.slates:
            if self._find(held.id):
                continue
            slate = ReferenceSlate(
                held.id,
                held.at,
                held.placement,
                list(held.items),
                {item: place for place, item in enumerate(held.items)},
                [_states(bits) for bits in held.states],
                held.explored,
                [named[place] for place in held.units],
            )
            holder.take(slate)
            self._mark(offset, holder, slate, self._awaited(held.id))

    def _find(self, slate: int) -> tuple[Holder, ReferenceSlate] | None:
        for holder in (self.own, *self.guests.values()):
            for held in holder.slates:
                if held.id == slate:
                    return holder, held
        return None

    def _guest(self, of: str) -> Holder:
        self._ensured_links()
        if of not in self.guests:
            self.guests[of] = Holder()
            if len(self.guests) > MAX_GUESTS:
                del self.guests[next(iter(self.guests))]
        return self.guests[of]

    # -- outcomes -------------------------------------------------------------------------

    def _act(self, offset: int, slate: int, mark: OutcomeRow) -> None:
        if found := self._find(slate):
            self._mark(offset, *found, [mark])
        else:
            self._wait(slate, mark)
            self._forget()

    def _wait(self, slate: int, mark: OutcomeRow) -> None:
        held = dict(self.waiting).get(slate)
        if held is None:
            self.waiting.append((slate, held := []))
        same = [m for m in held if m[:2] == mark[:2]]
        if same:
            held[held.index(same[0])] = min(same[0], mark)
        elif len(held) < MAX_WAITING_OUTCOMES:
            held.append(mark)
        else:
            self.lost += 1

    def _awaited(self, slate: int) -> list[OutcomeRow]:
        """Removes and gives the outcomes that waited for this slate."""
        held = dict(self.waiting).get(slate, [])
        self.waiting = [group for group in self.waiting if group[0] != slate]
        return held

    def _mark(
        self, offset: int, holder: Holder, slate: ReferenceSlate, marks: list[OutcomeRow]
    ) -> None:
        gained = [0] * 4
        for item, state, at in marks:
            place = slate.places.get(item)
            if place is None or at - slate.at > WINDOW_MS:
                self.lost += 1
                continue
            states = slate.states[place]
            if state not in states:
                states.add(state)
                gained[state] += 1
                explored, reward = int(place == slate.explored), float(state == 2)
                self.arms.append((offset, slate.placement, item, state, explored, 1, reward))
        if any(gained):
            for unit in slate.units:
                variant, before = holder.units[unit]
                after = tuple(a + b for a, b in zip(before, gained, strict=True))
                self.moments.append((offset, *unit, variant, before, after))
                holder.units[unit] = variant, after

    def _forget(self) -> None:
        self.own.drop(self.own.newest - WINDOW_MS)
        newest = max([self.own.newest, *(guest.newest for guest in self.guests.values())])
        oldest = newest - WINDOW_MS
        for guest in self.guests.values():
            guest.drop(oldest)
        if not self.waiting:
            return
        before = sum(len(held) for _, held in self.waiting)
        kept = [(slate, [m for m in held if m[2] >= oldest]) for slate, held in self.waiting]
        self.waiting = [(slate, held) for slate, held in kept if held][-MAX_OPEN_SLATES:]
        self.lost += before - sum(len(held) for _, held in self.waiting)

    # -- links ----------------------------------------------------------------------------

    def _ensured_links(self) -> ReferenceLinks:
        if self.links is None:
            self.links = ReferenceLinks()
        return self.links

    def _stored_links(self) -> open_slates.Links | None:
        if self.links is None:
            return None
        own = self.links
        guests = [
            open_slates.Guest(of, guest.newest, *guest.stored())
            for of, guest in self.guests.items()
        ]
        return open_slates.Links(own.to, own.earliest, own.pending, own.answered, guests, own.by)


def _stored(slate: ReferenceSlate, places: dict[UnitKey, int]) -> open_slates.OpenSlate:
    return open_slates.OpenSlate(
        slate.id,
        slate.at,
        slate.placement,
        pack(f"<{len(slate.items)}Q", *slate.items),
        bytearray(sum(1 << state for state in states) for states in slate.states),
        slate.explored,
        tuple(places[unit] for unit in slate.units),
    )


def _opened(slate: open_slates.OpenSlate, units: Sequence[UnitKey]) -> ReferenceSlate:
    """The inverse of `_stored`."""
    items = [item for (item,) in iter_unpack("<Q", slate.items)]
    return ReferenceSlate(
        slate.id,
        slate.at,
        slate.placement,
        items,
        {item: place for place, item in enumerate(items)},
        [_states(bits) for bits in slate.states],
        slate.explored,
        [units[place] for place in slate.units],
    )


def _states(bits: int) -> set[int]:
    return {state for state in range(4) if bits >> state & 1}


def concerns(e: events.Event) -> bool:
    """Whether a record concerns the outcomes of slates, or links."""
    if isinstance(e, Action):
        return bool(e.slate_id) and e.action in STATE_BY_ACTION
    if isinstance(e, Merge):
        reasons = (e.link, e.outcomes, e.served, e.slates, e.units, e.impressions)
        return any(reasons)
    return isinstance(e, Served | Link | Linking)


def by_viewer(
    log: Iterable[tuple[int, events.Event]],
) -> dict[str, list[tuple[int, Served | Action]]]:
    """(offset, event) of one partition in order -> each person's slates and outcomes, no duplicates."""
    taken: set[Name] = set()
    by_person: dict[str, list[tuple[int, Served | Action]]] = {}
    for offset, e in log:
        if not isinstance(e, Served | Action) or (name := name_of(e)) in taken:
            continue
        taken.add(name)
        if concerns(e):
            by_person.setdefault(e.person, []).append((offset, e))
    return by_person
