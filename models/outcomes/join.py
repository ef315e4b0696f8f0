"""The join of a person's slates with their actions. Log-ordered.

The join is symmetric: an action may precede the record of its slate, and waits for it. An outcome counts
once per (slate, item, state), if the slate holds the item and the outcome was received at most `WINDOW_MS`
after the slate was served. Any other outcome does not count. Points in the log bound the state of a person:
the newest `MAX_OPEN_SLATES` slates, none of them served more than `WINDOW_MS` before the newest, and
outcomes that wait for as many slates again, for as long.

**Links.** When an anonymous id is linked to a person, its open slates move to the person:

- Outcomes before the link, in the order of the anonymous id's log, count in its own account.
- The link closes that account (`close_account`): it counts nothing more. Later outcomes of its slates, and
  slates with a late record, are sent on to the person.
- The person takes the slates in as those of a guest (`receive`), with the states of their slots, so that
  each (slate, item, state) counts once, in one of both accounts, whichever id acts on it.
- Units stay those of the id that was served: the guest's units keep their counts, beside the person's
  own. So sums over units are those of the set of records, whenever the link arrives.
- Each guest has bounds of its own, and of all guests the newest `MAX_GUESTS` are kept. A guest's slate is
  dropped, too, once it was served more than `WINDOW_MS` before the newest of all.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Sequence
from struct import pack
from typing import Final, NamedTuple

from models.outcomes import links
from models.outcomes.open_slates import Account, Counts, Guest, OpenSlate, Outcome, Unit, Waiting
from schemas.alphabet import Millis
from schemas.state.facts import STATES
from schemas.times import DAY_MS

MAX_OPEN_SLATES: Final = 20
WINDOW_MS: Final = DAY_MS
MAX_WAITING_OUTCOMES: Final = 100
"""Outcomes that wait for one slate."""
MAX_GUESTS: Final = 20
"""Anonymous ids whose slates are kept with a person's."""
STATE_BY_ACTION: Final = {
    "display": STATES.index("displayed"),
    "click": STATES.index("clicked"),
    "purchase": STATES.index("converted"),
}
"""The state into which an action brings a slot; other actions are no outcomes."""
_SERVED: Final = 1 << STATES.index("served")


class Assignment(NamedTuple):
    """Hashes of experiment and variant, and the version."""

    experiment: int
    version: int
    variant: int


class Shown(NamedTuple):
    """A slate as it was served; `explored` is a rank, 0: none."""

    id: int
    at: Millis
    placement: int
    items: Sequence[int]
    explored: int = 0
    assigned: Sequence[Assignment] = ()


class SlotChange(NamedTuple):
    """A slot came into a state."""

    item: int
    state: int
    explored: bool


class UnitChange(NamedTuple):
    """The counts of a unit before and after a record."""

    experiment: int
    version: int
    variant: int
    before: Counts
    after: Counts


class Effect(NamedTuple):
    """The effect of one record: slots of one placement in a new state, changed units, counts for metrics."""

    placement: int
    arms: list[SlotChange]
    unit_changes: list[UnitChange]
    counts: Counter[str]


class Transfer(NamedTuple):
    """The content of a closed account: open slates, waiting outcomes, units."""

    slates: list[OpenSlate]
    waiting: list[Waiting]
    units: list[Unit]


Holder = Account | Guest


def serve(account: Account, shown: Shown, guest: str = "") -> Effect:
    """Adds a served slate, and joins the outcomes that waited for it. In place.

    `guest`: the anonymous id to which it was served, "" for the person.
    """
    effect = Effect(shown.placement, [], [], Counter())
    if _find_open(account, shown.id) is not None:
        effect.counts["served_again"] += 1
        return effect
    holder = _guest(account, guest) if guest else account
    slate = _opened(holder, shown, effect)
    effect.counts["served"] += 1
    effect.counts["served_items"] += len(slate.states)
    for outcome in _awaited(account, shown.id):
        _mark(slate, outcome, effect)
    _count_units(holder, slate, effect)
    insort(holder.slates, slate, key=_order)
    holder.newest = max(holder.newest, shown.at)
    if holder is account:
        account.since = min(account.since or shown.at, shown.at)
    _forget(account, effect)
    return effect


def act(account: Account, slate_id: int, outcome: Outcome) -> Effect:
    """Adds an outcome of a slate, whose record may come later. In place."""
    found = _find_open(account, slate_id)
    if found is None:
        effect = Effect(0, [], [], Counter())
        _wait(account, slate_id, outcome, effect)
        _forget(account, effect)
        return effect
    holder, slate = found
    effect = Effect(slate.placement, [], [], Counter())
    _mark(slate, outcome, effect)
    _count_units(holder, slate, effect)
    return effect


def close_account(account: Account, to: str, by: str = "") -> Transfer:
    """Closes the account of an id that was linked to the person `to` by the event `by`: its content moves
    there, and it counts nothing more, until an unlink begins a new account. In place."""
    transfer = Transfer(account.slates, account.waiting, account.units)
    account.slates, account.waiting, account.units = [], [], []
    held = links.of(account)
    held.to, held.by = to, by
    return transfer


def receive(account: Account, guest: str, transfer: Transfer) -> list[Effect]:
    """Takes in the content of the anonymous id `guest`, which is this person: the slates of each are joined
    with the waiting outcomes of the other. In place."""
    effects = []
    if transfer.slates or transfer.units:
        held = _guest(account, guest)
        places = [_enrol_moved(held, unit) for unit in transfer.units]
        for slate in transfer.slates:
            if _find_open(account, slate.id) is not None:
                continue
            slate.units = tuple(places[place] for place in slate.units)
            insort(held.slates, slate, key=_order)
            held.newest = max(held.newest, slate.at)
            if awaited := _awaited(account, slate.id):
                effects.append(Effect(slate.placement, [], [], Counter()))
                for outcome in awaited:
                    _mark(slate, outcome, effects[-1])
                _count_units(held, slate, effects[-1])
    for waiting in transfer.waiting:
        effects += [act(account, waiting.slate, outcome) for outcome in waiting.outcomes]
    effects.append(Effect(0, [], [], Counter()))
    _forget(account, effects[-1])
    return effects


def _guests(account: Account) -> list[Guest]:
    return account.links.guests if account.links is not None else []


def _guest(account: Account, anonymous: str) -> Guest:
    """The guest of this anonymous id, new where there is none; then the oldest guest makes room."""
    guests = links.of(account).guests
    for guest in guests:
        if guest.of == anonymous:
            return guest
    guests.append(Guest(anonymous))
    del guests[:-MAX_GUESTS]
    return guests[-1]


def _order(slate: OpenSlate) -> tuple[Millis, int]:
    return slate.at, slate.id


def _find_open(account: Account, slate_id: int) -> tuple[Holder, OpenSlate] | None:
    for slate in reversed(account.slates):
        if slate.id == slate_id:
            return account, slate
    for guest in _guests(account):
        for slate in reversed(guest.slates):
            if slate.id == slate_id:
                return guest, slate
    return None


def _opened(holder: Holder, shown: Shown, effect: Effect) -> OpenSlate:
    """The slate with all its slots served. An item that it holds twice is one slot, at its first rank."""
    items = tuple(dict.fromkeys(shown.items))
    explored = shown.items[shown.explored - 1] if 0 < shown.explored <= len(shown.items) else None
    slate = OpenSlate(
        shown.id,
        shown.at,
        shown.placement,
        pack(f"<{len(items)}Q", *items),
        bytearray([_SERVED]) * len(items),
        items.index(explored) if explored is not None else -1,
        tuple(dict.fromkeys(_enrolled(holder, each, effect) for each in shown.assigned)),
    )
    served = STATES.index("served")
    effect.arms.extend(
        [SlotChange(item, served, n == slate.explored) for n, item in enumerate(items)]
    )
    return slate


def _enrolled(holder: Holder, assigned: Assignment, effect: Effect) -> int:
    """Index of the id's unit in the experiment. The unit keeps its first variant."""
    for place, unit in enumerate(holder.units):
        if (unit.experiment, unit.version) == assigned[:2]:
            if unit.variant != assigned.variant:
                effect.counts["variant_changed"] += 1
            return place
    holder.units.append(Unit(*assigned))
    return len(holder.units) - 1


def _enrol_moved(guest: Guest, unit: Unit) -> int:
    """Index of a unit that moved with its guest."""
    for place, held in enumerate(guest.units):
        if (held.experiment, held.version) == (unit.experiment, unit.version):
            return place
    guest.units.append(unit)
    return len(guest.units) - 1


def _mark(slate: OpenSlate, outcome: Outcome, effect: Effect) -> None:
    place = _place(slate.items, outcome.item)
    bit = 1 << outcome.state
    if place < 0:
        effect.counts["unattributed:item"] += 1
    elif outcome.at - slate.at > WINDOW_MS:
        effect.counts["unattributed:late"] += 1
    elif slate.states[place] & bit:
        effect.counts["repeated"] += 1
    else:
        slate.states[place] |= bit
        effect.arms.append(SlotChange(outcome.item, outcome.state, place == slate.explored))
        effect.counts[f"attributed:{STATES[outcome.state]}"] += 1


def _place(items: bytes, item: int) -> int:
    """Index of `item` in `items`, u64 LE; -1 if it is missing."""
    sought, at = item.to_bytes(8, "little"), -1
    while (at := items.find(sought, at + 1)) % 8 and at > 0:
        pass
    return at // 8


def _count_units(holder: Holder, slate: OpenSlate, effect: Effect) -> None:
    """Adds the changed slots to the counts of each unit of the slate."""
    if not effect.arms:
        return
    states = [arm.state for arm in effect.arms]
    for place in slate.units:
        unit = holder.units[place]
        served, displayed, clicked, converted = before = unit.counts
        unit.counts = (
            served + states.count(0),
            displayed + states.count(1),
            clicked + states.count(2),
            converted + states.count(3),
        )
        change = UnitChange(unit.experiment, unit.version, unit.variant, before, unit.counts)
        effect.unit_changes.append(change)


def _wait(account: Account, slate_id: int, outcome: Outcome, effect: Effect) -> None:
    for waiting in account.waiting:
        if waiting.slate == slate_id:
            break
    else:
        waiting = Waiting(slate_id, [])
        account.waiting.append(waiting)
    for held in waiting.outcomes:
        if (held.item, held.state) == (outcome.item, outcome.state):
            held.at = min(held.at, outcome.at)
            effect.counts["repeated"] += 1
            return
    if len(waiting.outcomes) < MAX_WAITING_OUTCOMES:
        waiting.outcomes.append(outcome)
    else:
        effect.counts["unattributed:full"] += 1


def _awaited(account: Account, slate_id: int) -> list[Outcome]:
    """Removes and gives the outcomes that waited for this slate."""
    for n, waiting in enumerate(account.waiting):
        if waiting.slate == slate_id:
            return account.waiting.pop(n).outcomes
    return []


def _forget(account: Account, effect: Effect) -> None:
    """Drops slates and outcomes beyond the bounds: first by age, then by number."""
    _drop(account.slates, account.newest - WINDOW_MS)
    newest = account.newest
    if guests := _guests(account):
        newest = max(newest, *[guest.newest for guest in guests])
        for guest in guests:
            _drop(guest.slates, newest - WINDOW_MS)
    if not account.waiting:
        return
    before = sum(len(waiting.outcomes) for waiting in account.waiting)
    oldest = newest - WINDOW_MS
    for waiting in account.waiting:
        waiting.outcomes = [outcome for outcome in waiting.outcomes if outcome.at >= oldest]
    account.waiting = [waiting for waiting in account.waiting if waiting.outcomes][
        -MAX_OPEN_SLATES:
    ]
    lost = before - sum(len(waiting.outcomes) for waiting in account.waiting)
    if lost:
        effect.counts["unattributed:never_served"] += lost


def _drop(slates: list[OpenSlate], oldest: Millis) -> None:
    while slates and slates[0].at < oldest:
        del slates[0]
    del slates[: max(0, len(slates) - MAX_OPEN_SLATES)]
