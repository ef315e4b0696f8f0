"""Actions of a person in the terms of `models.outcomes`, and the effect of each on an account."""

from __future__ import annotations

import xxhash

from flows.people import transfer
from flows.people.batch import Effects, Hashes
from flows.people.outcome_records import WITHOUT_SLATE
from models.dedupe import IDENTITY_BITS, action_identity
from models.outcomes import join, likes, purchases, reversibles
from models.outcomes.effects import Effect, payment
from models.outcomes.join import STATE_BY_ACTION
from models.outcomes.open_slates import Account, Outcome, Reversible
from models.outcomes.purchases import LIKE, PURCHASE
from models.outcomes.touched import Reach
from models.records import MAX_AMOUNT, MAX_QUANTITY
from schemas.actions import TAKES_BACK, code_of
from schemas.events import Action, Merge, MergedOutcome, MergedReversal
from schemas.state.facts import currency_code

_xxh = xxhash.xxh3_64_intdigest


class Actions:
    """`items` and `names` hash ids; `reach`: of a purchase that names no slate."""

    def __init__(self, items: Hashes, names: Hashes, reach: Reach) -> None:
        self._items, self._names, self._reach = items, names, reach

    def fold(self, account: Account, event: Action, counted: bool) -> Effect:
        """The effect of an action on its person's account. `counted`: it made a fact. In place."""
        if event.action not in WITHOUT_SLATE:
            return join.act(account, _slate(event), self._outcome(event), self._reach)
        code = code_of(event.action, event.negative)
        if code in TAKES_BACK:
            return purchases.take_back(account, self._items[event.item_id], TAKES_BACK[code])
        held = self._reversible(event, counted)
        return purchases.purchase(account, held, _slate(event), event.received_at, self._reach)

    def like(self, event: Action, counted: bool) -> bytes:
        """The row of a like. `counted`: it made a fact."""
        return likes.row(self._items[event.item_id], event.occurred_at // 1000, counted)

    def repeat(self, account: Account, event: Action) -> Effect:
        """The effect of a purchase that was folded before, and names a slate. In place."""
        return purchases.repeat(account, _slate(event), self._outcome(event), self._reach)

    def forward(self, merge: Merge, event: Action, *, counted: bool, repeated: bool) -> Effect:
        """Copies the action of a linked id into the merge for its person. The effect: its money, which counts
        in this partition, as its fact does."""
        code, effect = code_of(event.action, event.negative), Effect()
        if code in TAKES_BACK:
            item = self._items[event.item_id]
            merge.reversal = MergedReversal(item, TAKES_BACK[code], event.known)
            return effect
        if code == LIKE:
            merge.likes = self.like(event, counted)
        elif code == PURCHASE and not repeated:
            held = self._reversible(event, counted)
            merge.acted = transfer.write_reversible(held)
            effect.money += payment(held)
        if event.slate_id and event.action in STATE_BY_ACTION:
            outcome = self._outcome(event)
            merge.outcomes = (
                MergedOutcome(
                    _slate(event), outcome.item, outcome.state, outcome.at, outcome.identity,
                    repeated,
                ),
            )  # fmt: skip
        return effect

    def receive(
        self, account: Account, merge: Merge, copies: list[tuple[int, int]]
    ) -> list[Effect]:
        """The effects of what a merge brings, without a slate that it serves. `copies`: (item, at) of likes
        that the person has already. In place."""
        effects = []
        if merge.acted is not None:
            acted, named = transfer.read_reversible(merge.acted), bool(merge.outcomes)
            effects.append(purchases.receive(account, acted, named, merge.received_at, self._reach))
        moved = transfer.read_transfer(merge)
        if copies:
            moved = moved._replace(likes=likes.without(moved.likes, copies))
        effects.append(join.receive(account, merge.of, moved, self._reach))
        effects += [
            purchases.repeat(account, slate, outcome, self._reach)
            for slate, outcome in transfer.repeated(merge)
        ]
        if merge.reversal is not None:
            effects.append(purchases.take_back(account, merge.reversal.item, merge.reversal.action))
        return effects

    def _outcome(self, event: Action) -> Outcome:
        item, state = self._items[event.item_id], STATE_BY_ACTION[event.action]
        identity = _identity(event) if event.action == "purchase" else 0
        return Outcome(item, state, event.received_at, identity)

    def _reversible(self, event: Action, counted: bool) -> Reversible:
        return Reversible(
            _identity(event),
            self._items[event.item_id],
            PURCHASE,
            event.occurred_at // 1000,
            counted,
            min(event.amount, MAX_AMOUNT),
            currency_code(event.currency) if event.currency else 0,
            min(event.quantity, MAX_QUANTITY),
        )


def hold(account: Account, row: bytes, at: int, unique_since: int, *, counted: bool) -> bytes:
    """Adds a purchase that names no slate to an account that has no slots, and gives its row: all that
    `Actions.fold` does there, but for its payment; most are of this kind. b"": `fold` has more to do. In
    place. `row`, `at`: of its `Short`; `counted`: it made a fact; `unique_since`: no record that came twice
    occurred from then on, s."""
    if account.touched or account.links is not None:
        return b""
    if not counted:
        row = reversibles.uncounted(row)
    return row if reversibles.append(account, row, at, unique_since) else b""


def take_back(offset: int, person: str, effect: Effect, effects: Effects) -> None:
    """Adds the facts that take back what the effect takes back, and its tallies."""
    for held in [*effect.taken_back, *effect.again]:
        if held.counted:
            effects.add_back(offset, held.item, held.at, held.action)
    for held in effect.taken_back:
        effects.taken_back.append((offset, person, held.identity, held.item, held.at))
    for reason, n in effect.tallies.items():
        effects.tally(reason, n)


def _slate(event: Action) -> int:
    """The hash of the slate that an action names; 0: none."""
    return _xxh(event.slate_id.encode()) if event.slate_id else 0


def _identity(event: Action) -> int:
    return action_identity(event) & IDENTITY_BITS or 1
