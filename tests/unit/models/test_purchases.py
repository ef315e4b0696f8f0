"""Conversions of purchases with and without a slate, refunds, unlikes and money; laws are in `tests/laws`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from models.aggregates.arms import Arm, arm_key
from models.features import ring
from models.features.affinity import affinity
from models.features.registry import read_row
from models.outcomes import open_slates, reversibles
from models.outcomes.open_slates import Account
from models.outcomes.touched import SIZE, Reach
from models.release import interest
from schemas import events
from schemas.events import Link, Linking
from schemas.identity import category_hash, item_hash
from schemas.keys import PLAIN
from tests.laws.world import (
    DAY,
    T0,
    Memory,
    action,
    assigned,
    fold_log,
    log_of,
    person,
    served,
)

HOME = arm_key("home", "i1")
EUR: dict[str, Any] = {"amount": 1000, "currency": "EUR"}


def bought(n: int, item: str = "i1", who: int = 1, **more: Any) -> events.Action:
    return action(n, who, item, "purchase", **more)


def refund(n: int, item: str = "i1", who: int = 1, **more: Any) -> events.Action:
    return action(n, who, item, "purchase", negative=True, **more)


def touched(n: int, what: str, slate: str, item: str = "i1", **more: Any) -> events.Action:
    return action(n, 1, item, what, slate_id=slate, **more)


def arm(memory: Memory) -> Arm:
    return memory.tables().arms.get(HOME)


def attribution(memory: Memory) -> dict[str, int]:
    return arm(memory).attribution


def tallies(memory: Memory) -> dict[bytes, bytes]:
    return memory.hashes.get(PLAIN.tallies(0), {})


def fold(*made: events.Event, reach: Reach | None = None) -> Memory:
    return fold_log(log_of(made), [2], restart=True, reach=reach or Reach())


NONE = {"direct": 0, "last_click": 0, "last_view": 0}


@pytest.mark.parametrize(
    ("what", "slate_id", "how"),
    [("click", "", "last_click"), ("display", "", "last_view"), ("click", "s", "direct")],
)
def test_a_purchase_converts_the_slot_that_it_names_or_that_was_touched(
    what: str, slate_id: str, how: str
) -> None:
    unit = (assigned("x"),)
    memory = fold(
        served("s", ["i1", "i2"], experiments=unit),
        touched(1, what, "s"),
        bought(2, slate_id=slate_id),
        bought(3),  # a slot is converted once
    )
    assert attribution(memory) == NONE | {how: 1}
    (row,) = memory.tables().moments.of("x", 1)
    assert row["sums"].tolist()[3:] == list(attribution(memory).values())


def test_a_purchase_may_come_before_the_record_of_its_slate() -> None:
    """The records of slate and click are written by other processes than the webhook's."""
    made: list[events.Event] = [
        bought(2),
        touched(1, "click", "s"),
        served("s", ["i1"]),
    ]
    for log in ([made[0], made[2], made[1]], made, [made[1], made[0], made[2]]):
        assert attribution(fold(*log)) == NONE | {"last_click": 1}
    assert attribution(fold(bought(2), refund(3), *made[1:])) == NONE
    named = [bought(2, event_id="o"), bought(3, event_id="o", slate_id="s"), *made[1:]]
    assert attribution(fold(*named)) == NONE | {"direct": 1}


def test_a_newer_display_does_not_take_a_purchase_from_a_click() -> None:
    made: list[events.Event] = [
        served(name, ["i1"], placement=name) for name in ("old", "clicked", "new")
    ]
    acts = [
        touched(1, "click", "old"),
        touched(2, "click", "clicked"),
        touched(3, "display", "new"),
        bought(4),
    ]
    memory = fold(*made, *acts, bought(5), bought(6), bought(7))
    found = [
        (memory.tables().arms.get(arm_key(name, "i1")).attribution)
        for name in ("old", "clicked", "new")
    ]
    assert found == [NONE | {how: 1} for how in ("last_click", "last_click", "last_view")]
    first = fold(*made, *acts)
    assert first.tables().arms.get(arm_key("clicked", "i1")).last_click == 1


@pytest.mark.parametrize(
    ("after", "counts"), [(-2000, 0), (0, 1), (7 * DAY, 1), (7 * DAY + 1000, 0)]
)
def test_a_purchase_converts_what_was_touched_in_the_week_before_it(
    after: int, counts: int
) -> None:
    at = T0 + 5000
    memory = fold(served("s", ["i1"]), touched(1, "click", "s", at=at), bought(2, at=at + after))
    assert arm(memory).last_click == counts


def test_the_newest_slots_are_kept_24_bytes_each() -> None:
    items = [f"i{n}" for n in range(5)]
    clicks = [touched(n, "click", "s", item) for n, item in enumerate(items)]
    memory = fold(served("s", items), *clicks, reach=Reach(slots=3))
    account = open_slates.decode(memory.values[PLAIN.open_slates(0, person(1))])
    assert len(account.touched) == 3 * SIZE == 72
    many = fold(
        served("s", items), *clicks, *map(bought, range(9, 14), items), reach=Reach(slots=3)
    )
    assert sum(row[3] == 4 for row in many.arms()) == 3


def test_of_one_order_the_record_that_names_a_slate_attributes_it() -> None:
    """The webhook came first: the page's record is a duplicate, and yet names the slate."""
    made: list[events.Event] = [
        served("s", ["i1"]),
        served("other", ["i1"], placement="other"),
        touched(1, "click", "other"),
        bought(2, event_id="order"),
    ]
    page = bought(3, event_id="order", slate_id="s")
    for log in ([*made, page], [*made[1:], page, made[0]]):
        memory = fold(*log)
        assert attribution(memory) == NONE | {"direct": 1}
        other = memory.tables().arms.get(arm_key("other", "i1"))
        assert other.attribution == NONE
        assert tallies(memory) == {b"duplicate": b"1"}
    again = fold(*made, page, bought(4, event_id="order", slate_id="other"))
    assert attribution(again) == NONE | {"direct": 1}


def test_a_slot_goes_to_the_purchase_that_names_it() -> None:
    memory = fold(served("s", ["i1"]), touched(1, "click", "s"), bought(2), bought(3, slate_id="s"))
    assert attribution(memory) == NONE | {"direct": 1}
    # the first purchase has no slot any more: to take it back changes no conversion
    more = fold(
        served("s", ["i1"]),
        touched(1, "click", "s"),
        bought(2),
        bought(3, slate_id="s"),
        refund(4),
        refund(5),
    )
    assert attribution(more) == NONE


def test_a_refund_leaves_what_was_before_the_purchase() -> None:
    unit = (assigned("x"),)
    made: list[events.Event] = [
        served("s", ["i1", "i2"], experiments=unit),
        touched(1, "click", "s"),
    ]
    before, after = fold(*made), fold(*made, bought(2, **EUR), refund(3, **EUR))
    one, other = before.tables(), after.tables()
    assert other.arms.get(HOME) == one.arms.get(HOME)
    assert other.moments.of("x", 1).tobytes() == one.moments.of("x", 1).tobytes()
    assert other.money.publish() == {"EUR": (0, 0, 0)}
    ours, theirs = (dict(zip(it.items.hashes.tolist(), it.popularity.sums.tolist(), strict=False))
                    for it in (one, other))  # fmt: skip
    assert theirs.keys() == ours.keys()
    for item, sums in ours.items():
        assert theirs[item] == pytest.approx(sums, rel=1e-9)
    assert tallies(after) == {}
    # the slot may be converted again
    assert attribution(fold(*made, bought(2), refund(3), bought(4))) == NONE | {"last_click": 1}


@pytest.mark.parametrize(
    ("what", "negative", "reason"),
    [
        ("purchase", True, b"refund_without_purchase"),
        ("unlike", False, b"unlike_without_like"),
    ],
)
def test_what_is_taken_back_without_having_been_is_tallied(
    what: str, negative: bool, reason: bytes
) -> None:
    nothing = action(1, 1, "i1", what, negative=negative, **EUR)
    memory = fold(action(0, 1, "i1", "view"), bought(2, "i2"), nothing)
    assert tallies(memory) == {reason: b"1"}
    assert memory.backs() == memory.arms() == memory.money() == []


def test_the_newest_purchase_that_was_not_taken_back_goes_first() -> None:
    memory = fold(
        bought(1, **EUR),
        bought(2, amount=300, currency="EUR", quantity=3),
        refund(3),
        bought(4, "i2", **EUR),
    )
    assert memory.tables().money.publish() == {"EUR": (2, 2, 2000)}
    assert [row[2] for row in memory.backs()] == [T0 // 1000 + 2]
    more = fold(bought(1, **EUR), bought(2, amount=300, currency="EUR"), refund(3), refund(4))
    assert more.tables().money.publish() == {"EUR": (0, 0, 0)}
    assert [row[2] - T0 // 1000 for row in more.backs()] == [2, 1]


def test_of_one_second_the_later_record_is_the_newest() -> None:
    """Whatever order their identities have, which are hashes."""
    for trial in range(8):
        made = [
            bought(n, at=T0 + n, event_id=f"{trial}-{n}", amount=100 * n, currency="EUR")
            for n in range(1, 4)
        ]
        paid = [int(str(row[3])) for row in fold(*made, refund(5), refund(6)).money()]
        assert paid == [100, 200, 300, -300, -200]


def test_what_was_taken_back_expresses_no_interest() -> None:
    made = [
        action(0, 1, "i2", "view"),
        bought(1, event_id="a"),
        bought(2, event_id="b", category="c9"),
        refund(3, event_id="r"),
    ]
    for sizes in ([1], [4], [3, 1]):
        memory = fold_log(log_of(made), sizes, restart=True)
        row = read_row(memory.values[PLAIN.row(0, person(1))])
        flags = [entry["flags"] & ring.BACK for entry in ring.recent(row)]
        assert flags == [ring.BACK, 0, 0]
        assert interest.items(row).tolist() == [item_hash("i1"), item_hash("i2")]
        assert category_hash("c9") not in affinity(row, T0)[0]


def test_a_mark_is_of_what_came_before_it_whatever_the_batch() -> None:
    """De-duplication forgot the order, so it is one anew; a link takes the mark along."""
    made: list[events.Event] = [bought(1, event_id="a"), refund(2)]
    made += [action(n, 1, f"v{n}", "view") for n in range(3, 20)]
    made += [bought(20, event_id="a")]
    made += [Link(event_id="l", person=person(1), to=person(2), received_at=T0 + 30_000)]
    whole, single = (fold_log(log_of(made), sizes, hours=0.001) for sizes in ([], [1]))
    assert whole.state() == single.state()
    row = read_row(whole.values[PLAIN.row(0, person(1))])
    flags = [key[5] & ring.BACK for key in ring.keys(row) if key[1] == item_hash("i1")]
    assert flags == [ring.BACK, 0]


def test_an_unlike_takes_a_like_out_of_popularity() -> None:
    memory = fold(action(1, 1, "i1", "like"), action(2, 1, "i1", "unlike"))
    assert memory.tables().popularity.sums[0].tolist() == pytest.approx([0.0] * 4, abs=1e-9)


def test_money_is_added_up_by_currency() -> None:
    memory = fold(
        bought(1, **EUR),
        bought(2, amount=250, currency="JPY", quantity=5),
        bought(3),  # names no currency
        bought(4, who=2, **EUR),
    )
    tables = memory.tables()
    assert tables.changed
    published = tables.publish(1).meta.money
    assert published == {"EUR": (2, 2, 2000), "JPY": (1, 5, 250)}
    assert type(tables).load(tables.dump()).money.publish() == published
    assert not tables.changed


def test_after_a_link_purchases_convert_slots_of_the_anonymous_id_and_are_taken_back() -> None:
    """The page knows a device, the webhook its user: touched slots and purchases move with the link."""
    device, user = person(1), person(2)
    early = fold_log(
        log_of(
            [
                served("s", ["i1", "i2"], 1, experiments=(assigned("x"),)),
                touched(1, "click", "s"),
                touched(2, "click", "s", "i2"),
                bought(3, "i2", **EUR),
                Link(event_id="l", person=device, to=user, received_at=T0 + 3000),
                refund(8, "i2"),
            ]
        )
    )
    sent = [events.decode_stored(fields[b"v"]) for _, fields in early.streams[PLAIN.outbox(0)]]
    mark = Linking(person=user, of=device, link="l", received_at=T0 + 3000)
    late = fold_log(log_of([mark, sent[0], bought(6, who=2), sent[1]]), [1], partition=1)
    last_clicks = Counter[object]()
    for row in [*early.arms(0), *late.arms(1)]:
        if row[3] == 4:
            last_clicks[row[2]] += int(str(row[5]))
    assert last_clicks == {item_hash("i1"): 1, item_hash("i2"): 0}
    assert [row[3:] for row in late.money(1)] == [(-1000, -1, -1)]
    assert len(late.backs(1)) == 1
    held = open_slates.decode(late.values[PLAIN.open_slates(1, user)])
    reversibles.load(held, late.values[PLAIN.reversibles(1, user)])
    assert [
        (it.conversion.of if it.conversion else None)
        for it in reversibles.every(held)
        if not it.taken_back
    ] == [device]


def test_an_account_without_purchases_is_hardly_larger() -> None:
    assert len(open_slates.encode(Account())) == 28
    views = fold_log(log_of([action(n, n % 3, f"i{n}", "view") for n in range(9)]))
    assert not [key for key in views.values if key.startswith(b"o:")]
