"""The outcomes of one person's slates, and of those of their anonymous ids, by plain lists of slates."""

from __future__ import annotations

from models.outcomes import likes, open_slates, reversibles
from models.outcomes.holders import MAX_GUESTS
from models.outcomes.join import REACH
from models.outcomes.open_slates import Account, Reversible
from models.outcomes.touched import Reach
from models.reference import plain
from models.reference.holders import (
    CONVERTED,
    Holder,
    ReferenceSlate,
    states_of,
    touched_of,
)
from models.reference.joined import Joined
from models.reference.links import ReferenceLinks
from models.reference.outcome_records import (
    LIKE,
    PURCHASE,
    OutcomeRow,
    mark_of,
    read,
    reversible,
    row_of,
)
from schemas.actions import TAKES_BACK, code_of
from schemas.events import Action, Linking, Merge, Served
from schemas.state import links

Impression = tuple[int, int, int]
"""Item, how often it was shown, when last (s)."""


class ReferenceOutcomes(Joined):
    """It takes the records for which `concerns` is true, in log order.

    `arms` and `moments`: the facts so far, as `(offset, placement, item, state, explored, sign, reward)` and
    `(offset, experiment, version, variant, before, after)`; the caller may clear both.
    """

    def __init__(self, reach: Reach = REACH) -> None:
        super().__init__(reach)
        self.links: ReferenceLinks | None = None
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
        made.reversibles, made.likes = list(reversibles.every(held)), likes.rows(held.likes)
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
            elif code_of(e.action, e.negative) == PURCHASE and not repeated:
                self.pay(offset, reversible(e, counted), 1)
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
        if TAKES_BACK.get(code) == LIKE:
            self.unlike(offset, item)
        elif code in TAKES_BACK:
            self._take_back(offset, item)
        elif code == LIKE:
            if not repeated:
                self.like(item % 2**32 // 2 * 2 + counted, e.occurred_at // 1000)
        elif repeated:
            self._repeat(offset, slate, mark_of(e))
        elif code == PURCHASE:
            self._new(offset, e, counted)
        else:
            self._act(offset, slate, mark_of(e))

    def _new(self, offset: int, e: Action, counted: bool) -> None:
        """A purchase."""
        new = reversible(e, counted)
        self.pay(offset, new, 1)
        if self.held(new.identity, new.item) is not None:
            self.tallies["told_twice"] += 1
            self.back(offset, new)
            self.adopt(offset, "", new)
            if e.slate_id:
                self._repeat(offset, plain.text(e.slate_id), mark_of(e))
            return
        self.hold(new)
        if e.slate_id:
            self._act(offset, plain.text(e.slate_id), mark_of(e))
        else:
            self.infer(offset, new, e.received_at // 1000)

    def _repeat(self, offset: int, slate: int, mark: OutcomeRow) -> None:
        """The slate of an order that came without one before."""
        held = self.held(mark[3], mark[0])
        direct = held and held.conversion and held.conversion.state == CONVERTED
        if held and not held.taken_back and not direct:
            self._act(offset, slate, mark)

    def _take_back(self, offset: int, item: int) -> None:
        held = self.take_back(offset, item)
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
        self.own, self.waiting, self.reversibles, self.likes = Holder(), [], [], []
        self.own.newest = newest

    def linking(self, e: Linking) -> None:
        self._ensured_links().mark(e)

    def receive(self, offset: int, merge: Merge) -> None:
        """Adds the account of an anonymous id, or one record of it after its link."""
        if merge.acted is not None:
            self._acted(offset, read(merge.acted), merge)
        if merge.slates or merge.units or merge.touched:
            self._take_in(offset, merge)
        for moved in merge.reversibles:
            self.adopt(offset, merge.of, read(moved))
        for bits, at in likes.rows(merge.likes):
            self.like(bits, min(at, merge.received_at // 1000))
        for merged in merge.outcomes:
            if not merged.repeated:
                self._act(offset, merged.slate, row_of(merged))
        self.settle(offset)
        self._forget()
        for merged in merge.outcomes:
            if merged.repeated:
                self._repeat(offset, merged.slate, row_of(merged))
        if merge.reversal is not None and merge.reversal.action == LIKE:
            self.unlike(offset, merge.reversal.item)
        elif merge.reversal is not None:
            self._take_back(offset, merge.reversal.item)
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
        """A purchase of an anonymous id after its link."""
        if self.held(new.identity, new.item) is not None:
            self.adopt(offset, "", new)
            return
        self.hold(new)
        if not merge.outcomes:
            self.infer(offset, new, merge.received_at // 1000)

    def account(self) -> Account:
        """The account to store."""
        stored = Account(
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
        )
        for held in self.reversibles:
            reversibles.hold(stored, held)
        for bits, at in self.likes:
            likes.hold(stored, likes.row(bits, at, counted=bool(bits % 2)))
        return stored

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
        holder.take(slate)
        self._mark(offset, guest, slate, marks + self._awaited(identifier))
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

    def _guest(self, of: str) -> Holder:
        self._ensured_links()
        if of not in self.guests:
            self.guests[of] = Holder()
            if len(self.guests) > MAX_GUESTS:
                del self.guests[next(iter(self.guests))]
        return self.guests[of]

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
