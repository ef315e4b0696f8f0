"""The outcomes of one person's slates, and of those of their anonymous ids, by plain lists of slates."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import asdict

from models.outcomes import open_slates
from models.outcomes.holders import MAX_GUESTS
from models.outcomes.join import REACH, STATE_BY_ACTION
from models.outcomes.open_slates import Account, Conversion, Reversible
from models.outcomes.slots import WINDOW_MS
from models.outcomes.touched import Reach
from models.outcomes.waiting import MAX_OPEN_SLATES, MAX_WAITING_OUTCOMES
from models.reference import plain
from models.reference.conversions import Conversions
from models.reference.holders import (
    CONVERTED,
    INFERRED,
    Holder,
    ReferenceSlate,
    TouchedSlot,
    states_of,
    touched_of,
)
from models.reference.links import ReferenceLinks
from schemas import events
from schemas.actions import TAKES_BACK, code_of
from schemas.events import Action, Link, Linking, Merge, MergedReversible, Served
from schemas.state import links
from schemas.state.facts import currency_code

OutcomeRow = tuple[int, int, int, int]
"""Item, state, receipt in ms, identity of a purchase."""
Impression = tuple[int, int, int]
"""Item, how often it was shown, when last (s)."""
_PURCHASE = 2
_LIKE = 5


class ReferenceOutcomes(Conversions):
    """It takes the records for which `concerns` is true, in log order.

    `arms` and `moments`: the facts so far, as `(offset, placement, item, state, explored, sign, reward)` and
    `(offset, experiment, version, variant, before, after)`; the caller may clear both.
    """

    def __init__(self, reach: Reach = REACH) -> None:
        super().__init__(reach)
        self.waiting: list[tuple[int, list[OutcomeRow]]] = []
        self.links: ReferenceLinks | None = None
        self.lost = 0
        """Number of outcomes that do not count, without repeated ones."""
        self.shown: list[list[Impression]] = []
        """Impressions: a batch of each slate, and of each merge."""
        self._since = 0

    @classmethod
    def begun(cls, by: str, reach: Reach = REACH) -> ReferenceOutcomes:
        """The outcomes of an anonymous id whose link the event `by` ended."""
        made = cls(reach)
        made._ensured_links().by = by
        return made

    @classmethod
    def of(cls, held: Account, reach: Reach = REACH) -> ReferenceOutcomes:
        """The stored account; impressions are stored elsewhere."""
        made = cls(reach)
        made.reversibles = list(held.reversibles)
        made.own, made._since = Holder.of(held), held.since
        made.waiting = [
            (it.slate, [(mark.item, mark.state, mark.at, mark.identity) for mark in it.outcomes])
            for it in held.waiting
        ]
        if held.links is not None:
            made.links = ReferenceLinks.of(held.links)
            made.guests = {guest.of: Holder.of(guest) for guest in held.links.guests}
        return made

    def add(
        self, offset: int, e: Served | Action, counted: bool = True, repeated: bool = False
    ) -> None:
        """Adds a slate or an action. After the id's link it counts for the person of the link. `counted`: the
        action made a fact; `repeated`: it was folded before."""
        gone = self.links is not None and self.links.to
        if isinstance(e, Action):
            if not gone:
                self._action(offset, e, counted, repeated)
            elif _reversible_code(e) is not None and not repeated:
                self.pay(offset, _reversible(e, counted), 1)
        elif gone:
            self._show(e)
        else:
            self._serve(offset, e)

    def _action(self, offset: int, e: Action, counted: bool, repeated: bool) -> None:
        code, item, slate = (
            code_of(e.action, e.negative),
            plain.item(e.item_id),
            plain.text(e.slate_id),
        )
        if code in TAKES_BACK:
            self._take_back(offset, item, TAKES_BACK[code])
        elif repeated:
            self._repeat(offset, slate, _mark_of(e))
        elif _reversible_code(e) is None:
            self._act(offset, slate, _mark_of(e))
        else:
            self._new(offset, e, counted)

    def _new(self, offset: int, e: Action, counted: bool) -> None:
        """A purchase or like."""
        new = _reversible(e, counted)
        self.pay(offset, new, 1)
        if self.held(new.identity, new.item) is not None:
            self.tallies["told_twice"] += 1
            self.back(offset, new)
            if new.action == _PURCHASE:
                self.adopt(offset, "", new)
                if e.slate_id:
                    self._repeat(offset, plain.text(e.slate_id), _mark_of(e))
            return
        self.hold(new)
        if new.action == _PURCHASE and e.slate_id:
            self._act(offset, plain.text(e.slate_id), _mark_of(e))
        elif new.action == _PURCHASE:
            self.infer(offset, new, e.received_at)

    def _repeat(self, offset: int, slate: int, mark: OutcomeRow) -> None:
        """The slate of an order that came without one before."""
        held = self.held(mark[3], mark[0])
        if held and not (held.conversion and held.conversion.state == CONVERTED):
            self._act(offset, slate, mark)

    def _take_back(self, offset: int, item: int, action: int) -> None:
        held = self.take_back(offset, item, action)
        if held is not None:
            gone = (item, held.identity)
            kept = [(s, [m for m in marks if (m[0], m[3]) != gone]) for s, marks in self.waiting]
            self.waiting = [(slate, marks) for slate, marks in kept if marks]

    def close(self, to: str, by: str) -> None:
        """Closes the account of an id that the event `by` linked to `to`: its content moves to that
        person."""
        held = self._ensured_links()
        held.to, held.by = to, by
        newest = self.own.newest
        self.own, self.waiting, self.reversibles = Holder(), [], []
        self.own.newest = newest

    def linking(self, e: Linking) -> None:
        self._ensured_links().mark(e)

    def receive(self, offset: int, merge: Merge) -> None:
        """Adds the account of an anonymous id, or one record of it after its link."""
        if merge.acted is not None:
            self._acted(offset, _read(merge.acted), merge)
        if merge.slates or merge.units or merge.touched:
            self._take_in(offset, merge)
        for moved in merge.reversibles:
            self.adopt(offset, merge.of, _read(moved))
        for merged in merge.outcomes:
            if not merged.repeated:
                self._act(offset, merged.slate, _row_of(merged))
        self._forget()
        for merged in merge.outcomes:
            if merged.repeated:
                self._repeat(offset, merged.slate, _row_of(merged))
        if merge.reversal is not None:
            self._take_back(offset, merge.reversal.item, merge.reversal.action)
        if merge.served is not None:
            of = merge.served.person
            self._serve(offset, merge.served, of if of != merge.person else "")
        if merge.impressions:
            self.shown.append(
                [(merged.item, merged.count, merged.last) for merged in merge.impressions]
            )
        if merge.link:
            self._ensured_links().answer(merge)

    def _acted(self, offset: int, new: Reversible, merge: Merge) -> None:
        """A purchase or like of an anonymous id after its link."""
        if self.held(new.identity, new.item) is not None:
            self.adopt(offset, "", new)
            return
        self.hold(new)
        if new.action == _PURCHASE and not merge.outcomes:
            self.infer(offset, new, merge.received_at)

    def account(self) -> Account:
        """The account to store."""
        return Account(
            newest=self.own.newest,
            since=self._since,
            slates=self.own.stored_slates(),
            waiting=[
                open_slates.Waiting(slate, [open_slates.Outcome(*mark) for mark in held])
                for slate, held in self.waiting
            ],
            units=self.own.stored_units(),
            links=self._stored_links(),
            touched=self.own.stored_touched(),
            unit_sets=self.own.stored_sets(),
            reversibles=self.reversibles,
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
        marks = [(item, 0, e.received_at, 0) for item in items]
        self._mark(offset, guest, slate, marks + self._awaited(identifier))
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
            counts = (*merged.counts, 0, 0)[:6]
            holder.units.setdefault(unit, (merged.variant, counts))
        sets = [tuple(named[place] for place in places) for places in merge.unit_sets]
        for slot in touched_of(merge.touched, sets):
            holder.touch(slot._replace(at=min(slot.at, merge.received_at // 1000)), self.reach)
        for held in merge.slates:
            if self._find(held.id):
                continue
            slate = ReferenceSlate(
                held.id,
                held.at,
                held.placement,
                list(held.items),
                {item: place for place, item in enumerate(held.items)},
                [states_of(bits) for bits in held.states],
                held.explored,
                [named[place] for place in held.units],
            )
            holder.take(slate)
            self._mark(offset, merge.of, slate, self._awaited(held.id))

    def _find(self, slate: int) -> tuple[str, ReferenceSlate] | None:
        for of, holder in self.holders():
            for held in holder.slates:
                if held.id == slate:
                    return of, held
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
            held[held.index(same[0])] = (*mark[:2], min(same[0][2], mark[2]), same[0][3])
        elif len(held) < MAX_WAITING_OUTCOMES:
            held.append(mark)
        else:
            self.lost += 1

    def _awaited(self, slate: int) -> list[OutcomeRow]:
        """Removes and gives the outcomes that waited for this slate."""
        held = dict(self.waiting).get(slate, [])
        self.waiting = [group for group in self.waiting if group[0] != slate]
        return held

    def _mark(self, offset: int, of: str, slate: ReferenceSlate, marks: list[OutcomeRow]) -> None:
        holder, gained = self.holder(of), Counter[int]()
        assert holder is not None
        for item, state, at, identity in marks:
            place = slate.places.get(item)
            if place is None or at - slate.at > WINDOW_MS:
                self.lost += 1
                continue
            states, held = slate.states[place], self.held(identity, item) if identity else None
            direct = held and held.conversion and held.conversion.state == CONVERTED
            if state in states or direct:
                continue
            if state == CONVERTED:
                self._take_over(offset, of, slate, item, held)
            states.add(state)
            gained[state] += 1
            explored, reward = int(place == slate.explored), float(state == 2)
            self.arms.append((offset, slate.placement, item, state, explored, 1, reward))
            low = slate.id & 0xFFFF_FFFF
            if state in (1, 2):
                new = TouchedSlot(
                    at // 1000, low, item, slate.placement, tuple(slate.units), frozenset(states),
                    bool(explored),
                )  # fmt: skip
                holder.touch(new, self.reach)
            else:
                holder.change(low, item, {state}, set())
        self.count(offset, holder, slate.units, gained)

    def _take_over(
        self, offset: int, of: str, slate: ReferenceSlate, item: int, held: Reversible | None
    ) -> None:
        """Gives a slot to a purchase that names its slate."""
        holder, place = self.holder(of), slate.places[item]
        assert holder is not None
        units = tuple(list(holder.units).index(unit) for unit in slate.units)
        low, explored = slate.id & 0xFFFF_FFFF, place == slate.explored
        for state in slate.states[place] & INFERRED:
            its = Conversion(of, low, slate.placement, explored, state, units)
            self.take_slot(offset, item, its)
        if held is not None:
            self.release(offset, held)
            held.conversion = Conversion(of, low, slate.placement, explored, CONVERTED, units)

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
            open_slates.Guest(
                of,
                guest.newest,
                guest.stored_slates(),
                guest.stored_units(),
                guest.stored_touched(),
                guest.stored_sets(),
            )
            for of, guest in self.guests.items()
        ]
        return open_slates.Links(own.to, own.earliest, own.pending, own.answered, guests, own.by)


def _reversible_code(e: Action) -> int | None:
    code = code_of(e.action, e.negative)
    return code if code in (_PURCHASE, _LIKE) else None


def _reversible(e: Action, counted: bool) -> Reversible:
    return Reversible(
        plain.list_identity(e),
        plain.item(e.item_id),
        code_of(e.action, e.negative),
        e.occurred_at,
        plain.name(e.category),
        counted,
        min(e.amount, 2**53),
        currency_code(e.currency) if e.currency else 0,
        min(e.quantity, 2**31 - 1),
    )


def _read(merged: MergedReversible) -> Reversible:
    slot = Conversion(**asdict(merged.conversion)) if merged.conversion is not None else None
    return Reversible(**{**asdict(merged), "conversion": slot})


def _mark_of(e: Action) -> OutcomeRow:
    state = STATE_BY_ACTION[e.action]
    identity = plain.list_identity(e) if state == CONVERTED else 0
    return plain.item(e.item_id), state, e.received_at, identity


def _row_of(merged: events.MergedOutcome) -> OutcomeRow:
    return merged.item, merged.state, merged.at, merged.identity


def attributes(e: events.Event) -> bool:
    """Whether a record is a purchase that names its slate: its repetition may attribute it."""
    return isinstance(e, Action) and e.action == "purchase" and not e.negative and bool(e.slate_id)


def concerns(e: events.Event) -> bool:
    """Whether a record concerns the outcomes of slates, or links."""
    if isinstance(e, Action):
        named = bool(e.slate_id) and e.action in STATE_BY_ACTION
        return named or e.action in ("purchase", "like", "unlike")
    if isinstance(e, Merge):
        reasons = (e.link, e.outcomes, e.served, e.slates, e.units, e.impressions, e.touched,
                   e.reversibles, e.acted, e.reversal)  # fmt: skip
        return any(reasons)
    return isinstance(e, Served | Link | Linking)
