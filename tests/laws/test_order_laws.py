"""Laws 11 and 13: an action counts for its time, whenever it arrives; and the cap remembers a day."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.people import acts
from models.features import disordered, enter, overflow, ring
from models.features.act import act_by_numpy
from models.features.registry import FEATURES, read_row
from models.reference import recents
from schemas import events
from schemas.alphabet import Pseudonym
from schemas.identity import item_hash
from schemas.keys import PLAIN
from schemas.state.facts import SAME_SESSION
from tests.laws.test_fold_laws import check_facts_and_sets, plain, unflagged
from tests.laws.world import DAY, T0, Memory, action, fold_log, log_of, person

MIDNIGHT = T0 - T0 % DAY
NOON = MIDNIGHT + DAY // 2
MINUTE = 60_000
imported = events.Source(mode="import")


def history(items: Sequence[int], step: int) -> list[events.Event]:
    """Actions of the four days before, imported, ascending by time."""
    begun = MIDNIGHT - 4 * DAY
    return [
        action(1000 + n, 1, f"i{item}", at=begun + n * step, source=imported)
        for n, item in enumerate(items)
    ]


def live(items: Sequence[int]) -> list[events.Event]:
    return [action(n, 1, f"i{item}", at=NOON + n * MINUTE) for n, item in enumerate(items)]


def value(memory: Memory) -> dict[str, Any]:
    """What must not depend on when the history came: list, items ever acted on, counts, facts."""
    row = read_row(memory.values[PLAIN.row(0, person(1))])
    return {
        "list": unflagged(row),
        "n": int(row["n"]),
        "counts": row["counts"].tolist(),
        "times": (int(row["first"]), int(row["newest"])),
        "facts": Counter(fact[1:4] for fact in memory.all_facts()),
    }


@given(
    st.lists(st.integers(0, 12), max_size=150),
    st.lists(st.integers(0, 12), max_size=90),
    st.sampled_from([20 * MINUTE, 2 * MINUTE]),
    st.lists(st.integers(1, 60), max_size=4),
    st.randoms(use_true_random=False),
)
def test_history_before_or_after_going_live_gives_the_same(
    old: list[int], new: list[int], step: int, sizes: list[int], rnd: random.Random
) -> None:
    before, after = history(old, step), live(new)
    mixed = [(n / (len(before) + 1), e) for n, e in enumerate(before)]
    mixed += [(rnd.random(), e) for e in after[:1]]
    mixed += [(1 + n, e) for n, e in enumerate(after[1:])]
    orders = (
        [*before, *after],
        [*after, *before],
        [e for _, e in sorted(mixed, key=lambda it: it[0])],
    )
    found = [value(fold_log(log_of(it), sizes)) for it in orders if it]
    assert found[1:] == found[:-1]


@pytest.mark.parametrize("people", [1, 20])
@pytest.mark.parametrize("seed", range(4))
def test_any_split_gives_the_same_where_actions_come_in_any_order(seed: int, people: int) -> None:
    """Many actions a day on few items: equal times, older ones, late ones, on days that alternate."""
    rnd = random.Random(seed)
    made = [
        action(
            n,
            1 + n % people,
            f"i{rnd.randrange(rnd.choice([3, 40]))}",
            rnd.choice(["view", "click", "purchase", "dislike", "hide"]),
            at=(at := NOON + n * 400_000 // people),
            received_at=at,
            session_id=rnd.choice(["", "a", "b"]),
        )
        for n in range(240 * min(people, 8))
    ]
    for e in made:
        back = rnd.choice([0, 0, 0, 0, 1, 400_000, MINUTE, DAY // 2, DAY, 2 * DAY, 8 * DAY])
        e.occurred_at -= back if back != 1 else e.occurred_at % 3_600_000
    log = log_of(made)
    whole, pieces = fold_log(log), fold_log(log, [rnd.randrange(1, 90), 30], restart=seed % 2 == 0)
    assert whole.state() == pieces.state()
    assert whole.all_facts() == pieces.all_facts()
    check_facts_and_sets(log, pieces, people)
    for who, past in plain(log).items():
        row = read_row(pieces.values[PLAIN.row(0, Pseudonym(who))])
        for feature in FEATURES:
            assert feature.value(row) == feature.reference(past), feature.name


@pytest.mark.parametrize("between", [0, 60])
@pytest.mark.parametrize("sizes", [[1], [50], [1000]])
def test_the_cap_of_an_item_lasts_a_day(between: int, sizes: list[int]) -> None:
    """Five views of a film, among any number of others, count three; the next day has its own."""
    others = [action(n, 1, f"i{n}", at=MIDNIGHT + n * 1000) for n in range(1, 4 * between)]
    film = [
        action(10_000 + n, 1, "film", at=MIDNIGHT + n * max(between, 1) * 1000 + 500)
        for n in range(5)
    ]
    morrow = [action(20_000, 1, "film", at=MIDNIGHT + DAY)]
    made = sorted([*others, *film, *morrow], key=lambda e: e.occurred_at)
    memory = fold_log(log_of(made), sizes, restart=True)
    days = [fact[2] // 86_400 for fact in memory.all_facts() if fact[1] == item_hash("film")]
    assert days == [MIDNIGHT // DAY] * 3 + [MIDNIGHT // DAY + 1]
    assert memory.hashes[PLAIN.tallies(0)] == {b"over_daily_cap": b"2"}
    held = memory.values.get(PLAIN.overflow(0, person(1)))
    assert (held is not None) == (between > 0)


@pytest.mark.parametrize("late", [0, 8 * DAY])
def test_a_full_day_counts_no_more(monkeypatch: pytest.MonkeyPatch, late: int) -> None:
    for module in (overflow, enter, recents):
        monkeypatch.setattr(module, "MAX_PER_DAY", 20)
    monkeypatch.setattr(acts, "act", act_by_numpy)  # the kernel has the bound in it
    made = [
        action(n, 1, f"i{n}", at=MIDNIGHT + n * 1000, received_at=MIDNIGHT + late + n * 1000)
        for n in range(100)
    ]
    log = log_of(made)
    counted = 20 if late else 70  # fifty are in the list, which late ones do not enter
    for sizes in ([1], [33], [100]):
        memory = fold_log(log, sizes, restart=True)
        check_facts_and_sets(log, memory)
        assert len(memory.all_facts()) == counted
        assert memory.hashes[PLAIN.tallies(0)] == {b"over_daily_limit": b"%d" % (100 - counted)}


@pytest.mark.parametrize("few", [0, 1, 10**9])  # 0: by the kernel
@pytest.mark.parametrize("sizes", [[1], [9]])
def test_an_older_action_is_paired_by_time_and_with_no_later_one(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], few: int
) -> None:
    if few:
        monkeypatch.setattr(acts, "act", act_by_numpy)
        monkeypatch.setattr(disordered, "MIN_PEOPLE_FOR_ROUNDS", few)
    at = [NOON, NOON + MINUTE, NOON + 2 * MINUTE, NOON + 40 * MINUTE, NOON + 41 * MINUTE]
    a, b, c, d, e = (action(n, 1, "abcde"[n], at=time) for n, time in enumerate(at))
    old = action(5, 1, "old", at=NOON + MINUTE + 1)
    alone = action(6, 1, "alone", at=NOON - 31 * MINUTE)
    between = action(7, 1, "between", at=NOON + 39 * MINUTE)
    log = log_of([a, b, c, d, old, alone, between, e])
    memory = fold_log(log, sizes)
    names = {item_hash(name): name for name in ["a", "b", "c", "d", "e", "old", "alone", "between"]}
    found = {
        names[fact[1]]: {names[p]: lag for p, lag in zip(fact[4], fact[5], strict=True)}
        for fact in memory.all_facts()
    }
    assert found == {
        "a": {},
        "b": {"a": 1 | SAME_SESSION},
        "c": {"b": 1 | SAME_SESSION, "a": 2 | SAME_SESSION},
        "d": {"c": 1, "b": 2, "a": 3},
        "old": {"b": 1 | SAME_SESSION, "a": 2 | SAME_SESSION},
        "alone": {},
        "between": {"c": 1, "old": 2, "b": 3, "a": 4, "alone": 5},
        # not what came late; what lies before the gap is beyond the session
        "e": {"d": 1 | SAME_SESSION, "c": 2, "b": 3, "a": 4},
    }
    row = read_row(memory.values[PLAIN.row(0, person(1))])
    assert (int(row["sessions"]), int(row["session_n"])) == (2, 2)
    in_order = {names[key[1]] for key in ring.keys(row) if key[5] & ring.IN_SESSION}
    assert in_order == set("abcde")
    check_facts_and_sets(log, memory)


def test_an_unknown_item_makes_facts_and_is_a_partner() -> None:
    made = [action(0, 1, "a", known=False), action(1, 1, "b", source=imported)]
    (entry,) = fold_log(log_of(made)).entries()
    assert entry.actions.flags.tolist() == [1, 2]
    assert entry.actions.partner.tolist() == [item_hash("a")]
