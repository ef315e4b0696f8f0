"""An order that a shop's page sent for a guest and its server for the user is one once both are linked, in
whatever order the records come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregates.tables import Tables
from models.dedupe import IDENTITY_BITS, action_identity
from models.features import counts, ring
from models.features.registry import read_row
from models.features.ring import COUNTED
from schemas import events
from schemas.actions import CODE
from schemas.events import Link, Merge, MergedAction, Unlink
from schemas.identity import category_hash, item_hash
from schemas.keys import PLAIN
from schemas.state.facts import BACK
from tests.laws.test_link_laws import interleaved, sent
from tests.laws.test_verify_laws import by_definition, mismatches, wrong_sums
from tests.laws.world import T0, Memory, action, fold_log, log_of, person

GUEST, USER = 1, 2
PURCHASE = CODE["purchase"]
ORDERS = 6
AT = T0 + 1000
step = st.tuples(st.sampled_from(["guest", "user", "other"]), st.integers(0, ORDERS - 1))
law = settings(max_examples=60, deadline=None)


def order(number: int, who: int, at: int) -> events.Action:
    """An order as one of two systems sends it: its time there differs."""
    paid = {"amount": 100, "currency": "EUR"}
    return action(at, who, f"i{number}", "purchase", event_id=f"order-{number}", **paid)


def made(steps: Sequence[tuple[str, int]], linked: int) -> tuple[list[Any], list[Any]]:
    """Records of the guest's partition and of the user's. `linked`: place of the link."""
    theirs: list[events.Event] = []
    own: list[events.Event] = []
    for n, (what, number) in enumerate(steps):
        if n == linked:
            theirs.append(Link(event_id="l", person=person(GUEST), to=person(USER), received_at=T0))
        if what == "other":
            own.append(action(n, USER, f"o{number}", "view"))
        else:
            who, log = (GUEST, theirs) if what == "guest" else (USER, own)
            log.append(order(number, who, n))
    if linked >= len(steps):
        theirs.append(Link(event_id="l", person=person(GUEST), to=person(USER), received_at=T0))
    return theirs, own


def tallied(memory: Memory, partition: int) -> int:
    return int(memory.hashes.get(PLAIN.tallies(partition), {}).get(b"told_twice", 0))


@law
@given(
    st.lists(step, max_size=24),
    st.integers(0, 24),
    st.lists(st.integers(1, 9), max_size=3),
    st.randoms(use_true_random=False),
)
def test_an_order_under_two_ids_is_in_the_list_once(
    steps: list[tuple[str, int]], linked: int, sizes: list[int], rnd: Any
) -> None:
    theirs, own = made(steps, linked)
    source = fold_log(log_of(theirs))
    log = log_of(interleaved(own, [sent(source, 0)], rnd))
    if not log or not any(isinstance(e, events.Action) for e in (*theirs, *own)):
        return
    home = fold_log(log, sizes, partition=1, restart=len(sizes) % 2 == 0)
    row = read_row(home.values.get(PLAIN.row(1, person(USER))))
    by_both = [{n for what, n in steps if what == who} for who in ("guest", "user")]
    assert counts.value(row)[0][PURCHASE] == len(by_both[0] | by_both[1])
    held = [key for key in ring.keys(row) if key[3] == PURCHASE]
    assert len(held) == len({key[4] for key in held}) == len(by_both[0] | by_both[1])
    assert tallied(home, 1) == len(by_both[0] & by_both[1])
    net = Counter[int]()
    for p, memory in enumerate((source, home)):
        for entry in (it.actions for it in memory.entries(p)):
            for item, flags in zip(entry.item.tolist(), entry.flags.tolist(), strict=True):
                net[item] += -1 if flags & BACK else 1
    orders = by_both[0] | by_both[1]
    assert [net[item_hash(f"i{number}")] for number in orders] == [1] * len(orders)
    money = [it.money for memory, p in ((source, 0), (home, 1)) for it in memory.entries(p)]
    assert sum(int(it.purchases.sum()) for it in money) == len(orders)
    assert sum(int(it.amount.sum()) for it in money) == 100 * len(orders)
    assert wrong_sums([source, home], [log_of(theirs), log]) == []
    whole = fold_log(log, partition=1)
    assert home.state() == whole.state()
    reference = by_definition(log)
    assert mismatches(home, 1, reference) == []
    assert reference.tallies["told_twice"] == tallied(home, 1)


LINK = Link(event_id="l", person=person(GUEST), to=person(USER), received_at=T0)


def refunded(who: int, at: int) -> events.Action:
    return action(at, who, "i1", "purchase", amount=100, currency="EUR", negative=True)


@pytest.mark.parametrize("sizes", [[1], [3], []])
@pytest.mark.parametrize(
    ("theirs", "own", "later"),
    [
        ([LINK, order(1, GUEST, 3)], [order(1, USER, 4), refunded(USER, 5)], []),
        ([order(1, GUEST, 3), LINK], [order(1, USER, 4), refunded(USER, 5)], []),
        ([order(1, GUEST, 3), refunded(GUEST, 4), LINK], [order(1, USER, 5)], []),
        ([order(1, GUEST, 3), refunded(GUEST, 4), LINK], [], [order(1, USER, 5)]),
        ([order(1, GUEST, 3), LINK, refunded(GUEST, 4)], [order(1, USER, 5)], []),
        ([LINK, order(1, GUEST, 3), refunded(GUEST, 4)], [], [order(1, USER, 5)]),
    ],
)
def test_an_order_under_two_ids_that_is_refunded_once_counts_no_more(
    theirs: list[Any], own: list[Any], later: list[Any], sizes: list[int]
) -> None:
    source = fold_log(log_of(theirs))
    log = log_of([*own, *sent(source, 0), *later])
    home = fold_log(log, sizes, partition=1)
    facts_of = [entry for memory, p in ((source, 0), (home, 1)) for entry in memory.entries(p)]
    assert sum(int(it.money.purchases.sum()) for it in facts_of) == 0
    assert sum(int(it.money.amount.sum()) for it in facts_of) == 0
    acts = [it.actions for it in facts_of]
    flags = [flag for it in acts for flag in it.flags[it.action == PURCHASE].tolist()]
    assert 2 * sum(flag & BACK > 0 for flag in flags) == len(flags)
    assert not any(
        key[3] == PURCHASE and not key[5] & ring.BACK
        for key in ring.keys(read_row(home.values[PLAIN.row(1, person(USER))]))
    )
    assert mismatches(home, 1, by_definition(log)) == []


@pytest.mark.parametrize("sizes", [[], [1]])
def test_a_refund_by_a_linked_guest_leaves_nothing_of_the_order_in_the_tables(
    sizes: list[int],
) -> None:
    """The user's partition takes the fact back, and has no other record of the item."""
    theirs = log_of([order(1, GUEST, 3), LINK, refunded(GUEST, 4)])
    source = fold_log(theirs, sizes)
    own = log_of(sent(source, 0))
    home = fold_log(own, sizes, partition=1)
    tables = Tables(2)
    for p, memory in enumerate((source, home)):
        for entry in memory.entries(p):
            tables.apply(p, entry)
    (place,) = tables.items.find(np.array([item_hash("i1")], np.uint64)).tolist()
    assert tables.popularity.sums[place].tolist() == pytest.approx([0.0] * 4, abs=1e-9)
    assert wrong_sums([source, home], [theirs, own]) == []


@law
@given(
    st.lists(
        st.tuples(st.sampled_from([GUEST, USER]), st.integers(0, 2), st.booleans()), max_size=16
    ),
    st.integers(0, 16),
    st.lists(st.integers(1, 9), max_size=3),
    st.randoms(use_true_random=False),
)
def test_facts_money_and_list_agree_on_orders_and_refunds_under_two_ids(
    steps: list[tuple[int, int, bool]], linked: int, sizes: list[int], rnd: Any
) -> None:
    """Whichever id sends an order and its refund, before the link or after, it counts once or not at all."""
    sends = [
        msgspec.structs.replace(order(number, who, at), negative=back)
        for at, (who, number, back) in enumerate(steps)
    ]
    before, after = sends[:linked], sends[linked:]
    guest, own = person(GUEST), [it for it in sends if it.person == person(USER)]
    theirs: list[events.Event] = [it for it in before if it.person == guest]
    theirs += [LINK, *(it for it in after if it.person == guest)]
    source = fold_log(log_of(theirs))
    log = log_of(interleaved(own, [sent(source, 0)], rnd))
    home = fold_log(log, sizes, partition=1, restart=len(sizes) % 2 == 0)
    facts, paid = Counter[int](), Counter[int]()
    for entry in (it for p, memory in enumerate((source, home)) for it in memory.entries(p)):
        acts, money = entry.actions, entry.money
        for item, code, flags in zip(acts.item, acts.action, acts.flags, strict=True):
            facts[int(item)] += int(code == PURCHASE) * (-1 if flags & BACK else 1)
        for item, sign in zip(money.item, money.purchases, strict=True):
            paid[int(item)] += int(sign)
    row = read_row(home.values.get(PLAIN.row(1, person(USER))))
    listed = Counter(key[1] for key in ring.keys(row) if not key[5] & ring.BACK)
    for item in map(item_hash, ("i0", "i1", "i2")):
        assert facts[item] == paid[item] == listed[item] in (0, 1)
    assert mismatches(home, 1, by_definition(log)) == []
    assert wrong_sums([source, home], [log_of(theirs), log]) == []


def merged(number: int, flags: int, n: int = 1) -> Merge:
    """One forwarded order of the guest."""
    it = order(number, GUEST, 0)
    identity = action_identity(it) & IDENTITY_BITS
    entry = MergedAction(
        item_hash(it.item_id), category_hash(it.category), AT, PURCHASE, identity, flags
    )
    one = [0] * len(CODE)
    one[PURCHASE] = 1
    return Merge(
        person=person(USER),
        source=0,
        offset=n,
        n=1,
        received_at=T0,
        of=person(GUEST),
        counts=tuple(one),
        entered=1,
        first=AT,
        newest=AT,
        recent=(entry,),
    )


@pytest.mark.parametrize("sizes", [[1], [2], []])
@pytest.mark.parametrize(("flags", "backs"), [(COUNTED, 1), (0, 0), (COUNTED | ring.BACK, 0)])
def test_the_fact_of_a_repeated_order_is_taken_back_where_it_was_made(
    sizes: list[int], flags: int, backs: int
) -> None:
    log = log_of([order(3, USER, 1), merged(3, flags)])
    memory = fold_log(log, sizes, partition=1)
    entries = [entry.actions for entry in memory.entries(1)]
    found = [
        (int(a.item[i]), int(a.time[i]), int(a.action[i]))
        for a in entries
        for i in range(len(a.item))
        if a.flags[i] & BACK
    ]
    assert found == [(item_hash("i3"), AT // 1000, PURCHASE)] * backs
    tables = memory.tables(2)
    reference = by_definition(log)
    assert mismatches(memory, 1, reference) == []
    assert tallied(memory, 1) == 1
    place = tables.items.of(np.array([item_hash("i3")], np.uint64))
    sums = tables.popularity.sums[place]
    assert (sums > 0).all() if not backs else (abs(sums) < 1e-9).all()


def test_an_order_that_the_list_no_longer_holds_counts_twice() -> None:
    """It reaches the last 50 actions, in one batch as in fifty."""
    others = [action(100 + n, USER, f"o{n}", "view") for n in range(60)]
    for n, times in ((49, 1), (50, 2)):
        log = log_of([merged(3, COUNTED), *others[:n], order(3, USER, 900)])
        for sizes in ([], [1], [7]):
            memory = fold_log(log, sizes, partition=1, restart=True)
            row = read_row(memory.values[PLAIN.row(1, person(USER))])
            assert counts.value(row)[0][PURCHASE] == times
            assert mismatches(memory, 1, by_definition(log)) == []
        again = log_of([order(3, USER, 1), *others[:n], merged(3, COUNTED)])
        row = read_row(fold_log(again, partition=1).values[PLAIN.row(1, person(USER))])
        assert counts.value(row)[0][PURCHASE] == times


def test_after_an_unlink_the_same_order_number_is_another_persons() -> None:
    """What the guest sent before belongs to the first user alone."""
    link = Link(event_id="l", person=person(GUEST), to=person(USER), received_at=T0)
    end = Unlink(event_id="u", person=person(GUEST), to=person(USER), received_at=T0)
    other = Link(event_id="m", person=person(GUEST), to=person(3), received_at=T0)
    source = fold_log(log_of([order(1, GUEST, 1), link, end, other]))
    home = fold_log(log_of([order(1, 3, 5), *sent(source, 0)]), partition=1)
    for who in (USER, 3):
        row = read_row(home.values[PLAIN.row(1, person(who))])
        assert counts.value(row)[0][PURCHASE] == 1
    assert tallied(home, 1) == 0
