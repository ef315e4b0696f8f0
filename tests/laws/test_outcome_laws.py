"""The laws of the join of slates and their outcomes (`models.outcomes`)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.people.batch import read_of
from flows.people.layers import layers
from models.outcomes import impressions, open_slates, reversibles
from models.outcomes.join import REACH
from models.outcomes.slots import WINDOW_MS
from models.outcomes.touched import Reach
from models.outcomes.waiting import MAX_OPEN_SLATES
from models.reference.outcomes import ReferenceOutcomes
from schemas import events
from schemas.identity import category_hash
from schemas.keys import PLAIN
from tests.laws.outcomes import by_viewer
from tests.laws.world import T0, Memory, Record, action, assigned, fold_log, log_of, person, served

HOUR = 3_600_000
PEOPLE = (1, 2)
ITEMS = [f"i{n}" for n in range(9)]
EXPERIMENTS = (
    (),
    (assigned("x"),),
    (assigned("x"), assigned("y", "b", 3)),
    (assigned("y", "c", 3), assigned("x", version=2)),
)
MONEY: dict[str, tuple[str, dict[str, Any]]] = {
    "order": ("purchase", {"amount": 250, "currency": "USD"}),
    "refund": ("purchase", {"amount": 250, "currency": "USD", "negative": True}),
}
one_record = st.fixed_dictionaries(
    {
        "what": st.sampled_from(
            ["served"] * 3
            + ["display", "click", "purchase", "click", "like", "order", "refund", "unlike"]
        ),
        "who": st.sampled_from(PEOPLE),
        "slate": st.integers(0, 6),
        "items": st.lists(st.sampled_from(ITEMS), max_size=5),
        "gap": st.sampled_from([0, 1, 1000, HOUR, 11 * HOUR, WINDOW_MS, WINDOW_MS + 1]),
        "back": st.sampled_from([0, 0, 0, HOUR, WINDOW_MS, 3 * WINDOW_MS]),
        "explored": st.integers(0, 6),
        "experiments": st.sampled_from(EXPERIMENTS),
        "again": st.sampled_from([False] * 9 + [True]),
    }
)
splits = st.lists(st.integers(1, 60), max_size=5)


def build(drawn: Sequence[dict[str, object]]) -> list[Record]:
    """A log out of what hypothesis drew: slates served late or never, repeated records, plain actions."""
    made: list[events.Event] = []
    now = T0
    for n, d in enumerate(drawn):
        now += int(d["gap"])  # type: ignore[call-overload]
        if d["again"] and made:
            made.append(made[n // 2])
            continue
        at = now - int(d["back"])  # type: ignore[call-overload]
        made.append(record(n, {**d, "at": at}))
    return log_of(made)


def record(n: int, d: dict[str, object]) -> events.Event:
    who, slate = int(d["who"]), f"s{d['who']}-{d['slate']}"  # type: ignore[call-overload]
    items: list[str] = d["items"]  # type: ignore[assignment]
    if d["what"] == "served":
        said = {"explored": d["explored"], "experiments": d["experiments"]}
        placement = f"p{int(d['slate']) % 2}"  # type: ignore[call-overload]
        return served(slate, items, who, int(d["at"]), placement=placement, **said)  # type: ignore[call-overload]
    item = items[0] if items else "i0"
    named = slate if d["explored"] else ""
    at = int(d["at"])  # type: ignore[call-overload]
    what, more = MONEY.get(str(d["what"]), (str(d["what"]), {}))
    if d["what"] == "order":  # one order in several records
        more = {**more, "event_id": f"o{slate}"}
    # the time of receipt decides, not the time that the client gives
    times = {"at": at - 30 * HOUR, "received_at": at}
    return action(n, who, item, what, slate_id=named, **more, **times)


def busy(seed: int, n: int = 700) -> list[Record]:
    """Two people, 45 slates each, quick enough that most are pushed out by newer ones, and forged ids."""
    rnd = random.Random(seed)
    drawn = []
    for i in range(n):
        slate = min(44, max(0, i * 45 // n + rnd.randrange(-25, 3)))
        what = rnd.choice(
            ["served", "display", "click", "click", "purchase", "view", "order", "refund"]
        )
        if what != "served" and rnd.random() < 0.2:
            slate = rnd.randrange(100, 150)
        drawn.append(
            {
                "what": what,
                "who": rnd.choice(PEOPLE),
                "slate": slate,
                "items": rnd.sample([f"i{(7 * slate + at) % 120}" for at in range(8)], 5),
                "gap": rnd.randrange(100_000),
                "back": rnd.choice([0, 0, 1000, HOUR]),
                "explored": rnd.randrange(7),
                "experiments": rnd.choice(EXPERIMENTS),
                "again": rnd.random() < 0.05,
            }
        )
    return build(drawn)


def check_splits(log: Sequence[Record], sizes: Sequence[int]) -> None:
    whole, one_by_one = fold_log(log), fold_log(log, [1], restart=True)
    pieces = fold_log(log, sizes, restart=len(sizes) % 2 == 0)
    assert whole.state() == one_by_one.state() == pieces.state()
    assert whole.arms() == one_by_one.arms() == pieces.arms()
    assert whole.moments() == one_by_one.moments() == pieces.moments()
    assert whole.money() == one_by_one.money() == pieces.money()
    assert whole.backs() == one_by_one.backs() == pieces.backs()
    assert whole.all_facts() == one_by_one.all_facts() == pieces.all_facts()
    assert whole.counts == one_by_one.counts == pieces.counts


def check_reference(log: Sequence[Record], memory: Memory, reach: Reach = REACH) -> None:
    came = by_viewer(((offset, e) for offset, _, e in log), reach)
    assert memory.arms() == in_log_order(one.arms for one in came.values())
    assert memory.moments() == in_log_order(one.moments for one in came.values())
    assert memory.money() == in_log_order(one.money for one in came.values())
    assert memory.backs() == in_log_order(one.backs for one in came.values())
    lost = [
        n
        for word, n in memory.counts.items()
        if word.startswith("unattributed:") and word != "unattributed:no_slate"
    ]
    assert sum(lost) == sum(one.lost for one in came.values())
    for who, one in came.items():
        check_account(memory, who, one)
        held = impressions.read(memory.values.get(PLAIN.impressions(0, who)))
        assert impressions.value(held) == impressions.reference_of_batches(
            [slate for slate in one.shown if slate]
        )


def in_log_order(rows: Iterable[Sequence[tuple[object, ...]]]) -> list[tuple[object, ...]]:
    """Facts in log order; those of one record keep their order."""
    return sorted(chain.from_iterable(rows), key=lambda row: int(row[0]))  # type: ignore[call-overload]


def check_account(memory: Memory, who: str, came: ReferenceOutcomes) -> None:
    account = open_slates.decode(memory.values.get(PLAIN.open_slates(0, who)))
    reversibles.load(account, memory.values.get(PLAIN.reversibles(0, who), b""))
    account.likes = memory.values.get(PLAIN.likes(0, who), b"")
    assert account == came.account()
    assert len(account.slates) <= MAX_OPEN_SLATES
    assert len(account.waiting) <= MAX_OPEN_SLATES


@given(st.lists(one_record, min_size=1, max_size=120), splits)
def test_law_4_any_split_gives_the_same_slates_and_facts(
    drawn: list[dict[str, object]], sizes: list[int]
) -> None:
    check_splits(build(drawn), sizes)


@given(
    st.lists(one_record, min_size=1, max_size=120),
    splits,
    st.sampled_from([REACH, Reach(slots=2, window_ms=HOUR)]),
)
def test_law_11_states_facts_units_and_impressions_equal_their_plain_definitions(
    drawn: list[dict[str, object]], sizes: list[int], reach: Reach
) -> None:
    log = build(drawn)
    check_reference(log, fold_log(log, sizes, reach=reach), reach)


@pytest.mark.parametrize("seed", range(4))
def test_laws_4_and_11_hold_with_more_slates_than_are_kept(seed: int) -> None:
    log = busy(seed)
    check_splits(log, [37, 90, 3])
    memory = fold_log(log, [50])
    check_reference(log, memory)
    lost = {word for word in memory.counts if word.startswith("unattributed")}
    assert {"unattributed:never_served", "unattributed:item"} <= lost


# a refund takes back what came before it in the log, so its place matters
@given(
    st.lists(one_record.filter(lambda it: it["what"] != "refund"), min_size=2, max_size=80),
    st.randoms(use_true_random=False),
)
def test_an_outcome_counts_the_same_before_and_after_its_slate(
    drawn: list[dict[str, object]], rnd: random.Random
) -> None:
    """Any order: as long as nothing is pushed out, totals are those of the set of records."""
    made = []
    for n, d in enumerate(drawn):
        mine = {**d, "experiments": (assigned("x"),), "at": T0 + int(d["back"]) // 2}  # type: ignore[call-overload]
        if d["what"] == "served":  # each slate is one record, whatever is drawn twice
            mine |= {"at": T0 + n, "slate": n}
        elif n % 3:
            mine |= {"slate": n // 2}
        made.append(record(n, mine))
    made = made[:MAX_OPEN_SLATES]  # so that nothing is pushed out
    shuffled = made[:]
    rnd.shuffle(shuffled)
    one, other = fold_log(log_of(made), [7]), fold_log(log_of(shuffled), [5])
    assert totals(one) == totals(other)
    assert units(one) == units(other)


def totals(memory: Memory) -> Counter[object]:
    """Arm and state -> number of facts."""
    return Counter(row[1:] for row in memory.arms())


def units(memory: Memory) -> dict[bytes, object]:
    held = {k: open_slates.decode(v) for k, v in memory.values.items() if k[:2] == b"o:"}
    return {key: account.units for key, account in held.items() if account.units}


def test_the_last_moments_fact_of_a_unit_is_what_its_account_holds() -> None:
    memory = fold_log(busy(9), [41])
    last: dict[object, Counter[int]] = {}
    for _, experiment, version, variant, before, after in memory.moments():
        key = (experiment, version, variant)
        last.setdefault(key, Counter()).update(
            {n: a - b for n, (a, b) in enumerate(zip(after, before, strict=True))}
        )
    held: dict[object, Counter[int]] = {}
    for who in PEOPLE:
        for unit in open_slates.decode(memory.values[PLAIN.open_slates(0, person(who))]).units:
            key = (unit.experiment, unit.version, unit.variant)
            held.setdefault(key, Counter()).update(dict(enumerate(unit.counts)))
    assert held == last


def test_people_who_are_shown_nothing_have_no_slates() -> None:
    memory = fold_log(log_of([action(n, n % 4, f"i{n}") for n in range(50)]))
    assert not [key for key in memory.values if key[:2] in (b"o:", b"im")]
    assert (memory.arms(), memory.moments(), memory.counts) == ([], [], Counter())


def test_a_slate_that_de_duplication_forgot_is_recognised_while_it_is_open() -> None:
    log = log_of(
        [served("s", ["i1", "i2"]), *[action(n) for n in range(60)], served("s", ["i1", "i2"])]
    )
    memory = fold_log(log, [7], hours=0.001)
    assert memory.counts["served_again"] == 1
    assert len(memory.arms()) == 2
    shown = impressions.read(memory.values[PLAIN.impressions(0, person(1))])
    assert shown["count"].tolist() == [1, 1]


@pytest.mark.parametrize("version", [-1, 1 << 16, 1 << 70])
def test_a_version_that_no_fact_can_hold_is_no_experiment(version: int) -> None:
    said = (assigned("x", version=version), assigned("y"))
    memory = fold_log(log_of([served("s", experiments=said)]))
    assert [row[1] for row in memory.moments()] == [category_hash("y")]


def test_served_records_do_not_split_a_run_of_actions() -> None:
    """Served records between actions change no other state."""
    acts: list[events.Event] = [action(n, n % 3, f"i{n % 7}") for n in range(60)]
    slates: list[events.Event] = [served(f"s{n}", ["i1", "i2"], n % 3) for n in range(60)]
    mixed = [event for pair in zip(acts, slates, strict=True) for event in pair]
    one, other = fold_log(log_of(acts)), fold_log(log_of(mixed), [13])
    kinds = read_of(0, 0, 120, log_of(mixed)).columns.kind
    assert [len(layer) for layer in layers(kinds, np.arange(120))] == [60]
    rows = {key: value for key, value in one.values.items() if key[:2] in (b"u:", b"s:")}
    assert rows == {key: value for key, value in other.values.items() if key[:2] in (b"u:", b"s:")}
    assert [fact[1:] for fact in one.all_facts()] == [fact[1:] for fact in other.all_facts()]
