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
from typing import Final, NamedTuple

from models.outcomes import conversions, holders, likes, links, reversibles, slots, touched, waiting
from models.outcomes.effects import Effect
from models.outcomes.open_slates import (
    Account,
    Holder,
    OpenSlate,
    Outcome,
    Reversible,
    Unit,
    Waiting,
)
from models.outcomes.slots import Place, Shown
from models.outcomes.touched import Reach
from schemas.alphabet import Millis
from schemas.state.facts import STATES

STATE_BY_ACTION: Final = {
    "display": STATES.index("displayed"),
    "click": STATES.index("clicked"),
    "purchase": STATES.index("converted"),
}
"""The state into which an action brings a slot; other actions are no outcomes."""
REACH: Final = Reach()


class Transfer(NamedTuple):
    """The content of a closed account: open slates, waiting outcomes, units, touched slots with the sets of
    units that they name, and what can be taken back."""

    slates: list[OpenSlate]
    waiting: list[Waiting]
    units: list[Unit]
    touched: bytes = b""
    unit_sets: tuple[tuple[int, ...], ...] = ()
    reversibles: tuple[Reversible, ...] = ()
    likes: bytes = b""


def serve(account: Account, shown: Shown, guest: str = "", reach: Reach = REACH) -> Effect:
    """Adds a served slate, and joins the outcomes that waited for it. In place.

    `guest`: the anonymous id to which it was served, "" for the person.
    """
    effect = Effect()
    if holders.find_slate(account, shown.id) is not None:
        effect.counts["served_again"] += 1
        return effect
    holder = holders.guest(account, guest) if guest else account
    slate = slots.opened(holder, shown, effect)
    effect.counts["served"] += 1
    effect.counts["served_items"] += len(slate.states)
    awaited = waiting.awaited(account, shown.id)
    gained = slots.mark(account, Place(guest, holder, slate), awaited, effect, reach)
    served = [0] * len(slate.states)
    conversions.count_units(holder, slate.units, served + gained, 1, effect)
    insort(holder.slates, slate, key=_order)
    holder.newest = max(holder.newest, shown.at)
    if holder is account:
        account.since = min(account.since or shown.at, shown.at)
    if gained:
        conversions.settle(account, reach, effect, [outcome.item for outcome in awaited])
    waiting.forget(account, effect)
    return effect


def act(account: Account, slate_id: int, outcome: Outcome, reach: Reach = REACH) -> Effect:
    """Adds an outcome of a slate, whose record may come later. In place."""
    effect = Effect()
    join(account, slate_id, outcome, effect, reach)
    return effect


def join(account: Account, slate_id: int, outcome: Outcome, effect: Effect, reach: Reach) -> None:
    """The same, as a part of `effect`."""
    found = holders.find_slate(account, slate_id)
    if found is None:
        waiting.wait(account, slate_id, outcome, effect)
        waiting.forget(account, effect)
    else:
        _mark(account, Place(*found), [outcome], effect, reach)


def close_account(account: Account, to: str, by: str = "") -> Transfer:
    """Closes the account of an id that was linked to the person `to` by the event `by`: its content moves
    there, and it counts nothing more, until an unlink begins a new account. In place."""
    transfer = Transfer(
        account.slates,
        account.waiting,
        account.units,
        account.touched,
        tuple(account.unit_sets),
        reversibles.newest(account),
        likes.newest(account),
    )
    account.slates, account.waiting, account.units = [], [], []
    account.touched, account.unit_sets = b"", []
    account.conversions = []
    reversibles.load(account, b"")
    account.likes = b""
    held = links.of(account)
    held.to, held.by = to, by
    return transfer


def receive(account: Account, guest: str, transfer: Transfer, reach: Reach = REACH) -> Effect:
    """Takes in the content of the anonymous id `guest`, which is this person: the slates of each are joined
    with the waiting outcomes of the other. In place."""
    effect = Effect()
    if transfer.slates or transfer.units or transfer.touched:
        held = holders.guest(account, guest)
        places = [_enrol_moved(held, unit) for unit in transfer.units]
        sets = [tuple(places[place] for place in units) for units in transfer.unit_sets]
        touched.take_in(held, transfer.touched, sets, reach)
        for slate in transfer.slates:
            if holders.find_slate(account, slate.id) is not None:
                continue
            slate.units = tuple(places[place] for place in slate.units)
            insort(held.slates, slate, key=_order)
            held.newest = max(held.newest, slate.at)
            _mark(
                account,
                Place(guest, held, slate),
                waiting.awaited(account, slate.id),
                effect,
                reach,
            )
    for moved in transfer.reversibles:
        conversions.adopt(account, guest, moved, effect)
    for at in range(0, len(transfer.likes), likes.SIZE):
        likes.hold(account, transfer.likes[at : at + likes.SIZE])
    for group in transfer.waiting:
        for outcome in group.outcomes:
            join(account, group.slate, outcome, effect, reach)
    conversions.settle(account, reach, effect)
    waiting.forget(account, effect)
    return effect


def _order(slate: OpenSlate) -> tuple[Millis, int]:
    return slate.at, slate.id


def _enrol_moved(guest: Holder, unit: Unit) -> int:
    """Index of a unit that moved with its guest."""
    for place, held in enumerate(guest.units):
        if (held.experiment, held.version) == (unit.experiment, unit.version):
            return place
    guest.units.append(unit)
    return len(guest.units) - 1


def _mark(
    account: Account, at: Place, outcomes: list[Outcome], effect: Effect, reach: Reach
) -> None:
    gained = slots.mark(account, at, outcomes, effect, reach)
    conversions.count_units(at.holder, at.slate.units, gained, 1, effect)
    if gained:
        conversions.settle(account, reach, effect, [outcome.item for outcome in outcomes])
