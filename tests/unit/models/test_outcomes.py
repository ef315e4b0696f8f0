"""The join of slates and outcomes, case by case; its laws are in `tests/laws`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from models.outcomes.effects import Effect, SlotChange, UnitChange
from models.outcomes.join import act, serve
from models.outcomes.open_slates import VERSION, Account, Outcome, decode, encode
from models.outcomes.slots import WINDOW_MS, Assignment, Shown
from models.outcomes.waiting import MAX_OPEN_SLATES, MAX_WAITING_OUTCOMES
from schemas.state.facts import STATES

SERVED, DISPLAYED, CLICKED, CONVERTED, LAST_CLICK, LAST_VIEW = range(len(STATES))
T = 1_760_000_000_000
HOME = 77
X = Assignment(experiment=5, version=1, variant=50)


def shown(slate: int = 1, items: Sequence[int] = (10, 11, 12), at: int = T, **more: Any) -> Shown:
    return Shown(slate, at, HOME, items, **more)


def outcome(item: int = 11, state: int = CLICKED, at: int = T + 1000) -> Outcome:
    return Outcome(item, state, at)


def lost(effect: Effect) -> dict[str, int]:
    return {word: n for word, n in effect.counts.items() if word.startswith("unattributed")}


def test_every_slot_is_served_once_and_the_explored_one_is_marked() -> None:
    account = Account()
    effect = serve(account, shown(explored=3))
    assert effect.arms == [
        SlotChange(HOME, 10, SERVED, False),
        SlotChange(HOME, 11, SERVED, False),
        SlotChange(HOME, 12, SERVED, True),
    ]
    assert effect.counts == {"served": 1, "served_items": 3}
    assert act(account, 1, outcome(12)).arms == [SlotChange(HOME, 12, CLICKED, True)]


def test_each_state_counts_once_of_an_item_of_a_slate() -> None:
    account = Account()
    serve(account, shown(1))
    serve(account, shown(2, at=T + 1))
    assert act(account, 1, outcome()).arms == [SlotChange(HOME, 11, CLICKED, False)]
    again = act(account, 1, outcome(at=T + 5))
    assert (again.arms, again.unit_changes, again.counts) == ([], [], {"repeated": 1})
    assert act(account, 1, outcome(10)).arms == [SlotChange(HOME, 10, CLICKED, False)]
    assert act(account, 2, outcome()).arms == [SlotChange(HOME, 11, CLICKED, False)]
    assert act(account, 1, outcome(state=DISPLAYED)).arms == [
        SlotChange(HOME, 11, DISPLAYED, False)
    ]


def test_a_purchase_converts_without_a_click() -> None:
    account = Account()
    serve(account, shown(assigned=[X]))
    effect = act(account, 1, outcome(state=CONVERTED))
    assert effect.arms == [SlotChange(HOME, 11, CONVERTED, False)]
    assert effect.unit_changes == [UnitChange(*X, (3, 0, 0, 0, 0, 0), (3, 0, 0, 1, 0, 0))]


def test_an_outcome_that_came_first_is_joined_in_the_record_of_the_slate() -> None:
    account = Account()
    for state in (CLICKED, DISPLAYED, CLICKED):
        assert act(account, 1, outcome(state=state)).arms == []
    effect = serve(account, shown(assigned=[X]))
    assert effect.arms[3:] == [
        SlotChange(HOME, 11, CLICKED, False),
        SlotChange(HOME, 11, DISPLAYED, False),
    ]
    assert effect.unit_changes == [UnitChange(*X, (0, 0, 0, 0, 0, 0), (3, 1, 1, 0, 0, 0))]
    assert account.waiting == []


def test_an_item_that_the_slate_did_not_hold_counts_for_nothing() -> None:
    account = Account()
    act(account, 1, outcome(99))
    assert lost(serve(account, shown())) == {"unattributed:item": 1}
    effect = act(account, 1, outcome(99))
    assert (effect.arms, lost(effect)) == ([], {"unattributed:item": 1})


def test_the_bytes_of_two_neighbours_are_no_item() -> None:
    account = Account()
    serve(account, shown(1, [2 << 32, 1 << 40], explored=1))
    assert lost(act(account, 1, outcome(2))) == {"unattributed:item": 1}
    serve(account, shown(2, [2 << 32, 1 << 40, 2], explored=1))
    assert act(account, 2, outcome(2)).arms == [SlotChange(HOME, 2, CLICKED, False)]


def test_an_outcome_counts_until_the_window_is_over() -> None:
    account = Account()
    serve(account, shown())
    assert act(account, 1, outcome(10, at=T + WINDOW_MS)).arms
    late = act(account, 1, outcome(11, at=T + WINDOW_MS + 1))
    assert (late.arms, lost(late)) == ([], {"unattributed:late": 1})
    act(account, 2, outcome(10, at=T + WINDOW_MS + 1))
    assert lost(serve(account, shown(2))) == {"unattributed:late": 1}


def test_an_item_that_a_slate_names_twice_is_one_slot() -> None:
    account = Account()
    effect = serve(account, shown(items=(10, 11, 10), explored=3, assigned=[X, X]))
    assert effect.arms == [SlotChange(HOME, 10, SERVED, True), SlotChange(HOME, 11, SERVED, False)]
    assert effect.unit_changes == [UnitChange(*X, (0, 0, 0, 0, 0, 0), (2, 0, 0, 0, 0, 0))]


@pytest.mark.parametrize("explored", [-1, 4, 99])
def test_a_rank_that_the_slate_lacks_is_no_exploration(explored: int) -> None:
    effect = serve(Account(), shown(explored=explored))
    assert not any(arm.explored for arm in effect.arms)


def test_a_slate_without_items_is_no_unit() -> None:
    effect = serve(Account(), shown(items=(), assigned=[X]))
    assert (effect.arms, effect.unit_changes) == ([], [])


def test_a_slate_that_is_open_is_not_served_again() -> None:
    """De-duplication forgets sooner than a person's last slates, if a setting says so."""
    account = Account()
    serve(account, shown(assigned=[X]))
    again = serve(account, shown(assigned=[X]))
    assert (again.arms, again.unit_changes, again.counts) == ([], [], {"served_again": 1})


def test_the_variant_met_first_stays() -> None:
    account = Account()
    serve(account, shown(1, assigned=[X]))
    effect = serve(account, shown(2, assigned=[X._replace(variant=51)]))
    assert effect.unit_changes == [UnitChange(*X, (3, 0, 0, 0, 0, 0), (6, 0, 0, 0, 0, 0))]
    assert effect.counts["variant_changed"] == 1
    another = serve(account, shown(3, assigned=[X._replace(version=2, variant=51)]))
    assert another.unit_changes == [UnitChange(5, 2, 51, (0, 0, 0, 0, 0, 0), (3, 0, 0, 0, 0, 0))]


def test_one_record_moves_every_experiment_of_its_slate() -> None:
    account = Account()
    both = [X, Assignment(6, 1, 60)]
    serve(account, shown(1, assigned=both))
    serve(account, shown(2, assigned=[X]))
    assert act(account, 1, outcome()).unit_changes == [
        UnitChange(*X, (6, 0, 0, 0, 0, 0), (6, 0, 1, 0, 0, 0)),
        UnitChange(*both[1], (3, 0, 0, 0, 0, 0), (3, 0, 1, 0, 0, 0)),
    ]


def test_the_oldest_slate_gives_way_whatever_the_order_of_arrival() -> None:
    account = Account()
    for n in range(MAX_OPEN_SLATES):
        serve(account, shown(n, at=T + n))
    assert serve(account, shown(100, at=T - 1)).arms  # it counts, though it is not kept
    assert [slate.id for slate in account.slates] == list(range(MAX_OPEN_SLATES))
    serve(account, shown(101, at=T + 5))
    assert [slate.id for slate in account.slates][:6] == [1, 2, 3, 4, 5, 101]
    assert act(account, 0, outcome()).arms == []


def test_a_slate_is_kept_for_the_window_of_the_newest() -> None:
    account = Account()
    serve(account, shown(1))
    serve(account, shown(2, at=T + WINDOW_MS))
    assert [slate.id for slate in account.slates] == [1, 2]
    serve(account, shown(3, at=T + WINDOW_MS + 1))
    assert [slate.id for slate in account.slates] == [2, 3]


def test_waiting_outcomes_are_bounded_in_slates_number_and_time() -> None:
    account = Account()
    for n in range(MAX_OPEN_SLATES):
        assert not lost(act(account, n, outcome()))
    act(account, 0, outcome(12))
    assert lost(act(account, MAX_OPEN_SLATES, outcome())) == {"unattributed:never_served": 2}
    assert len(account.waiting) == MAX_OPEN_SLATES
    for n in range(MAX_WAITING_OUTCOMES - 1):
        assert not lost(act(account, 1, outcome(1000 + n)))
    assert lost(act(account, 1, outcome(9))) == {"unattributed:full": 1}
    assert lost(act(account, 1, outcome())) == {}  # it waits already
    effect = serve(account, shown(500, at=T + 2000 + WINDOW_MS))
    assert lost(effect) == {"unattributed:never_served": MAX_WAITING_OUTCOMES + MAX_OPEN_SLATES - 1}
    assert account.waiting == []


def test_an_outcome_alone_pushes_no_slate_out() -> None:
    """An import says when it was received: it must not end what is open."""
    account = Account()
    serve(account, shown())
    act(account, 2, outcome(at=T + 900 * WINDOW_MS))
    assert act(account, 1, outcome()).arms


def test_an_account_is_stored_as_versioned_plain_data() -> None:
    account = Account()
    for n in range(30):
        serve(account, shown(n, at=T + n, assigned=[X], explored=2))
        act(account, n - 1, outcome())
        act(account, 900 + n, outcome())
    blob = encode(account)
    assert len(blob) < 2700
    assert encode(decode(blob)) == blob
    assert decode(blob) == account
    assert decode(None) == Account()
    assert blob[0] == VERSION


@pytest.mark.parametrize("blob", [b"\x01", msgspec.msgpack.encode([9]), b"nonsense"])
def test_bytes_of_another_version_are_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="rebuild"):
        decode(blob)
