"""Purchases and likes of a person, and what takes them back. Log-ordered.

A refund takes back one purchase, and an `unlike` one like, of its item: the newest that was not taken back.
Its fact, its money and its conversion go, as if it had never been. Where there is none, nothing changes but
a tally. An order that comes twice counts once; the one that names a slate attributes it.
"""

from __future__ import annotations

from typing import Final

from models.outcomes import conversions, join, likes, reversibles, waiting
from models.outcomes.conversions import CONVERTED
from models.outcomes.effects import Effect, payment
from models.outcomes.join import REACH
from models.outcomes.open_slates import Account, Outcome, Reversible
from models.outcomes.touched import Reach
from schemas.actions import CODE
from schemas.alphabet import Millis

PURCHASE: Final = CODE["purchase"]
LIKE: Final = CODE["like"]
NOTHING_THERE: Final = {
    PURCHASE: "refund_without_purchase",
    LIKE: "unlike_without_like",
}
"""Code of an action -> the reason why what takes it back has no effect."""
REPEATED_ORDER: Final = "told_twice"


def purchase(
    account: Account, new: Reversible, slate: int, received: Millis, reach: Reach = REACH
) -> Effect:
    """Adds a purchase; `slate`: the hash of the slate that it names, 0: none. In place."""
    effect = Effect(money=payment(new))
    if _again(account, new, effect):
        conversions.adopt(account, "", new, effect)
        if slate:
            _move(account, slate, outcome_of(new, received), effect, reach)
        return effect
    attribute(account, new, slate, received, effect, reach)
    return effect


def attribute(
    account: Account,
    new: Reversible,
    slate: int,
    received: Millis,
    effect: Effect,
    reach: Reach,
) -> None:
    """Adds a purchase that the account lacks, and converts its slot, if there is one. In place."""
    if slate:
        reversibles.hold(account, new)
        join.join(account, slate, outcome_of(new, received), effect, reach)
    else:
        conversions.infer(account, new, received // 1000, reach, effect)
        reversibles.hold(account, new)


def receive(
    account: Account, moved: Reversible, named: bool, received: Millis, reach: Reach = REACH
) -> Effect:
    """Adds a purchase of a linked anonymous id, which counted there. `named`: it names a slate, and
    its outcome follows. In place."""
    effect = Effect()
    if reversibles.find(account, moved.identity, moved.item) is not None:
        conversions.adopt(account, "", moved, effect)
    else:
        if not named:
            conversions.infer(account, moved, received // 1000, reach, effect)
        reversibles.hold(account, moved)
    return effect


def repeat(account: Account, slate: int, outcome: Outcome, reach: Reach = REACH) -> Effect:
    """A purchase that came before comes again, with the slate that it names: it attributes the purchase, if
    that named none. In place."""
    effect = Effect()
    _move(account, slate, outcome, effect, reach)
    return effect


def take_back(account: Account, item: int, action: int) -> Effect:
    """Takes back the newest `action` on an item. In place."""
    effect = Effect()
    if action == LIKE:
        if (like := likes.take(account, item)) is None:
            effect.tallies[NOTHING_THERE[action]] = 1
        else:
            effect.taken_back.append(Reversible(0, item, LIKE, *like))
        return effect
    held = reversibles.take(account, item)
    if held is None:
        effect.tallies[NOTHING_THERE[action]] = 1
        return effect
    conversions.release(account, held, effect)
    waiting.forget_order(account, held.identity, item)
    effect.taken_back.append(held)
    effect.money += payment(held, -1)
    return effect


def outcome_of(held: Reversible, received: Millis) -> Outcome:
    return Outcome(held.item, CONVERTED, received, held.identity)


def _move(account: Account, slate: int, outcome: Outcome, effect: Effect, reach: Reach) -> None:
    held = reversibles.find(account, outcome.identity, outcome.item)
    direct = held and held.conversion and held.conversion.state == CONVERTED
    if held is not None and not held.taken_back and not direct:
        join.join(account, slate, outcome, effect, reach)
    else:
        effect.counts["repeated"] += 1


def _again(account: Account, new: Reversible, effect: Effect) -> bool:
    """Whether the account holds this purchase; then `new` is not counted again."""
    if reversibles.find(account, new.identity, new.item) is None:
        return False
    effect.again.append(new)
    effect.tallies[REPEATED_ORDER] = 1
    return True
