"""What came of what a person was shown: their slates joined with what they did. Log-ordered.

The join is symmetric: an action may come before the record of its slate, and waits for it. An
outcome counts once per (slate, item, state), if the slate held the item and the outcome was received
at most `WINDOW_MS` after the slate was served; everything else counts for nothing. What is kept of a
person is bounded by points in the log: the newest `SLATES` slates, none of them served more than
`WINDOW_MS` before the newest, and outcomes that wait for as many slates again, for as long.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Sequence
from struct import pack
from typing import Final, NamedTuple

from models.account import Account, Counts, Outcome, Slate, Unit, Waiting
from schemas.alphabet import Millis
from schemas.facts import STATES

SLATES: Final = 20
WINDOW_MS: Final = 86_400_000
WAITING: Final = 100
"""Most outcomes that wait for one slate."""
STATE: Final = {
    "display": STATES.index("displayed"),
    "click": STATES.index("clicked"),
    "purchase": STATES.index("converted"),
}
"""The state that an action brings a slot into; other actions are no outcome."""
_SERVED: Final = 1 << STATES.index("served")


class Assignment(NamedTuple):
    """Hashes, but for the version."""

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


class Arm(NamedTuple):
    """A slot came into a state."""

    item: int
    state: int
    explored: bool


class Moved(NamedTuple):
    """What a record did to a unit's counts."""

    experiment: int
    version: int
    variant: int
    before: Counts
    after: Counts


class Effect(NamedTuple):
    """What one record meant: a new state of slots of one placement, the units' counts, and words."""

    placement: int
    arms: list[Arm]
    moved: list[Moved]
    counts: Counter[str]


def serve(account: Account, shown: Shown) -> Effect:
    """A slate was served: its items are, and what waited for it is joined. In place."""
    effect = Effect(shown.placement, [], [], Counter())
    if _find(account, shown.id) is not None:
        effect.counts["served_again"] += 1
        return effect
    slate = _opened(account, shown, effect)
    effect.counts["served"] += 1
    effect.counts["served_items"] += len(slate.states)
    for outcome in _awaited(account, shown.id):
        _mark(slate, outcome, effect)
    _move(account, slate, effect)
    insort(account.slates, slate, key=lambda held: (held.at, held.id))
    account.newest = max(account.newest, shown.at)
    _forget(account, effect)
    return effect


def act(account: Account, slate_id: int, outcome: Outcome) -> Effect:
    """Something came of a slate, whose record may still be on its way. In place."""
    slate = _find(account, slate_id)
    effect = Effect(slate.placement if slate else 0, [], [], Counter())
    if slate is None:
        _wait(account, slate_id, outcome, effect)
        _forget(account, effect)
    else:
        _mark(slate, outcome, effect)
        _move(account, slate, effect)
    return effect


def _find(account: Account, slate_id: int) -> Slate | None:
    for slate in reversed(account.slates):
        if slate.id == slate_id:
            return slate
    return None


def _opened(account: Account, shown: Shown, effect: Effect) -> Slate:
    """The slate with all its slots served. An item that it names twice is one slot, at its first rank."""
    items = tuple(dict.fromkeys(shown.items))
    explored = shown.items[shown.explored - 1] if 0 < shown.explored <= len(shown.items) else None
    slate = Slate(
        shown.id,
        shown.at,
        shown.placement,
        pack(f"<{len(items)}Q", *items),
        bytearray([_SERVED]) * len(items),
        items.index(explored) if explored is not None else -1,
        tuple(dict.fromkeys(_enrolled(account, each, effect) for each in shown.assigned)),
    )
    served = STATES.index("served")
    effect.arms.extend([Arm(item, served, n == slate.explored) for n, item in enumerate(items)])
    return slate


def _enrolled(account: Account, assigned: Assignment, effect: Effect) -> int:
    """Place of the person's unit. The variant they met first stays theirs."""
    for place, unit in enumerate(account.units):
        if (unit.experiment, unit.version) == assigned[:2]:
            if unit.variant != assigned.variant:
                effect.counts["variant_changed"] += 1
            return place
    account.units.append(Unit(*assigned))
    return len(account.units) - 1


def _mark(slate: Slate, outcome: Outcome, effect: Effect) -> None:
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
        effect.arms.append(Arm(outcome.item, outcome.state, place == slate.explored))
        effect.counts[f"attributed:{STATES[outcome.state]}"] += 1


def _place(items: bytes, item: int) -> int:
    """Where it stands among u64s, -1 if nowhere."""
    sought, at = item.to_bytes(8, "little"), -1
    while (at := items.find(sought, at + 1)) % 8 and at > 0:
        pass
    return at // 8


def _move(account: Account, slate: Slate, effect: Effect) -> None:
    """Adds the slots that changed to each unit that had a say in the slate."""
    if not effect.arms:
        return
    states = [arm.state for arm in effect.arms]
    for place in slate.units:
        unit = account.units[place]
        served, displayed, clicked, converted = before = unit.counts
        unit.counts = (
            served + states.count(0),
            displayed + states.count(1),
            clicked + states.count(2),
            converted + states.count(3),
        )
        moved = Moved(unit.experiment, unit.version, unit.variant, before, unit.counts)
        effect.moved.append(moved)


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
    if len(waiting.outcomes) < WAITING:
        waiting.outcomes.append(outcome)
    else:
        effect.counts["unattributed:full"] += 1


def _awaited(account: Account, slate_id: int) -> list[Outcome]:
    """What waited for this slate, and waits no more."""
    for n, waiting in enumerate(account.waiting):
        if waiting.slate == slate_id:
            return account.waiting.pop(n).outcomes
    return []


def _forget(account: Account, effect: Effect) -> None:
    """Drops what is too old, then what is too much."""
    oldest = account.newest - WINDOW_MS
    while account.slates and account.slates[0].at < oldest:
        del account.slates[0]
    del account.slates[: max(0, len(account.slates) - SLATES)]
    if not account.waiting:
        return
    before = sum(len(waiting.outcomes) for waiting in account.waiting)
    for waiting in account.waiting:
        waiting.outcomes = [outcome for outcome in waiting.outcomes if outcome.at >= oldest]
    account.waiting = [waiting for waiting in account.waiting if waiting.outcomes][-SLATES:]
    lost = before - sum(len(waiting.outcomes) for waiting in account.waiting)
    if lost:
        effect.counts["unattributed:never_served"] += lost
