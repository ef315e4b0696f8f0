"""What a person can take back, as rows of one string: as a plain list has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.people.batch import Hashes
from flows.people.outcome_actions import Actions, hold
from flows.people.outcome_records import short_records
from models.outcomes import likes, reversibles
from models.outcomes.effects import Payment
from models.outcomes.join import REACH
from models.outcomes.likes import MAX_LIKES
from models.outcomes.open_slates import Account, Conversion, Reversible, decode, encode
from models.outcomes.reversibles import MAX_REVERSIBLES
from models.records import of_events
from models.reference import plain
from schemas.state.facts import currency_code
from tests.laws.world import T0, action

SLOT = Conversion("", 7, 1, explored=False, state=4, units=(0,))
step = st.tuples(
    st.sampled_from(["hold", "hold", "hold", "take", "store"]),
    st.integers(1, 4),
    st.integers(1, 40),
    st.integers(0, 30),
)


def reloaded(account: Account) -> Account:
    made = decode(encode(account))
    reversibles.load(made, account.reversibles)
    return made


def new(item: int, identity: int, at: int, conversion: Conversion | None = None) -> Reversible:
    return Reversible(
        identity, item, 2, at, True, amount=at, currency=5, quantity=2, conversion=conversion
    )


@given(st.lists(step, max_size=60))
def test_rows_say_what_a_list_of_purchases_says(steps: list[tuple[str, int, int, int]]) -> None:
    account, listed = Account(), list[Reversible]()
    for what, item, identity, at in steps:
        held = reversibles.find(account, identity, item)
        if what == "hold" and held is None:
            conversion = SLOT if at % 3 == 0 else None
            reversibles.hold(account, new(item, identity, at, conversion))
            listed.append(new(item, identity, at, conversion))
        elif what == "take":
            counts = [it for it in listed if it.item == item and not it.taken_back]
            taken = reversibles.take(account, item)
            newest = max(reversed(counts), key=lambda it: it.at, default=None)  # the last of equals
            assert taken == newest
            if newest:
                newest.taken_back, newest.conversion, newest.pending = True, None, 0
        elif what == "store" and held is not None:
            held.pending, held.conversion = at, SLOT if at % 2 else None
            reversibles.store(account, held)
            (mine,) = (it for it in listed if (it.identity, it.item) == (identity, item))
            mine.pending, mine.conversion = held.pending, held.conversion
        account = reloaded(account)
        assert list(reversibles.every(account)) == listed
        assert len(account.conversions) == sum(it.conversion is not None for it in listed)
        assert reversibles.pending(account, [item]) == [
            it for it in listed if it.pending and it.item == item
        ]


def test_the_oldest_makes_room_with_its_conversion() -> None:
    account = Account()
    count = 2 * MAX_REVERSIBLES
    for n in range(count):
        reversibles.hold(account, new(1, n + 1, n, SLOT if n <= MAX_REVERSIBLES else None))
    assert [it.at for it in reversibles.every(account)] == list(range(MAX_REVERSIBLES, count))
    assert [it.identity for it in account.conversions] == [MAX_REVERSIBLES + 1]
    assert reversibles.newest(account) == tuple(reversibles.every(account))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.booleans()), max_size=30))
def test_the_short_way_of_a_purchase_without_a_slate_is_the_whole_one(
    drawn: list[tuple[int, int, bool]],
) -> None:
    items = Hashes(plain.item)
    actions = Actions(items, items, REACH)
    short, whole = Account(), Account()
    for n, (item, at, paid) in enumerate(drawn):
        money: dict[str, Any] = {"amount": 100 * n, "currency": "EUR"} if paid else {}
        event = action(at, item=f"i{item}", what="purchase", event_id=f"e{n % 9}", **money)
        found = actions.fold(whole, event, n % 2 == 1)
        (record,) = short_records(of_events([event], [at]), np.arange(1))
        *_, second, row, _ = record
        if hold(short, row, second, 2 * T0, counted=n % 2 == 1):
            payment = Payment(plain.item(f"i{item}"), currency_code("EUR"), 100 * n, 1, 1)
            assert found.money == ([payment] if paid else [])
            assert record[-1] == (payment[1:4] if paid else (0, 0, 1))
            assert not found.again
        else:
            actions.fold(short, event, n % 2 == 1)
        assert short == whole


PURCHASE = {"what": "purchase", "slate_id": "", "amount": 5, "currency": "EUR"}


@pytest.mark.parametrize(
    ("fields", "short"),
    [
        ({}, True),
        ({"what": "like", "slate_id": "s"}, True),
        ({"amount": 2**60, "quantity": 2**40}, True),
        ({"currency": "", "amount": 0}, True),
        ({"slate_id": "s"}, False),
        ({"negative": True}, False),
        ({"amount": -1}, False),
        ({"quantity": -1}, False),
        ({"what": "unlike"}, False),
        ({"what": "view"}, False),
    ],
)
def test_which_records_go_the_short_way(fields: dict[str, Any], short: bool) -> None:
    event = action(1_000, **{**PURCHASE, **fields})
    (record,) = short_records(of_events([event], [1_000]), np.arange(1))
    assert (record is not None) == short


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 20), st.booleans())),
)
def test_rows_say_what_a_list_of_likes_says(drawn: list[tuple[bool, int, int, bool]]) -> None:
    account, listed = Account(), list[tuple[int, bool, int]]()
    for unliked, number, at, counted in drawn:
        item = plain.item(f"i{number}")
        if not unliked:
            likes.hold(account, likes.row(item, at, counted))
            listed.append((at, counted, number))
            continue
        there = [it for it in listed if it[2] == number]
        newest = max(there, default=None)
        assert likes.take(account, item) == (newest[:2] if newest else None)
        if newest:
            listed.remove(newest)
        assert [at for _, at in likes.rows(account.likes)] == [at for at, *_ in listed]


def test_the_oldest_likes_make_room_and_a_copy_leaves_one() -> None:
    account = Account()
    for n in range(2 * MAX_LIKES):
        likes.hold(account, likes.row(plain.item("i"), n, counted=True))
    kept = list(range(MAX_LIKES, 2 * MAX_LIKES))
    assert [at for _, at in likes.rows(account.likes)] == kept
    assert likes.newest(account) == account.likes
    rest = likes.without(account.likes, [(plain.item("i"), kept[0]), (plain.item("other"), 120)])
    assert [at for _, at in likes.rows(rest)] == kept[1:]
    bounded = likes.bounded(account.likes, kept[0] + 1)
    assert {at for _, at in likes.rows(bounded)} == {kept[0], kept[0] + 1}
