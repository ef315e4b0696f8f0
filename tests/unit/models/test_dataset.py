"""What a trainer may learn from: cuts by choices, caps a person, and counts of all that is dropped."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.ranking import Lists
from models.features.overflow import MAX_PER_DAY
from models.training import dataset
from models.training.dataset import Acts, TooLittle, choose, interactions, sound
from schemas.actions import CODE
from schemas.times import DAY_MS

T0 = 20_000 * DAY_MS
CLICK, VIEW, HIDE = CODE["click"], CODE["view"], CODE["hide"]
Rows = list[tuple[int, int, int, int]]
"""(time in s after T0, person, item, action) of each act."""


def acts(rows: Rows) -> Acts:
    time, person, item, action = (
        (np.array(it) for it in zip(*rows, strict=True)) if rows else [np.empty(0)] * 4
    )
    n = len(rows)
    return Acts(
        np.zeros(n, np.uint16),
        np.arange(n, dtype=np.int64),
        T0 + 1000 * time.astype(np.int64),
        person.astype(np.uint64),
        item.astype(np.uint64),
        action.astype(np.uint8),
        np.ones(n, np.bool_),
        np.zeros(n, np.bool_),
    )


def audience(people: int = 200, each: int = 15) -> Rows:
    """Everyone clicks on `each` items, one every 100 s, all at the same time as the others."""
    return [(100 * n, 1 + p, 100 * p + n, CLICK) for n in range(each) for p in range(people)]


def test_what_is_dropped_is_counted_by_reason() -> None:
    rows: Rows = [(n, 1, 5, CLICK) for n in range(5)]
    rows += [(n, 2, 6, action) for n, action in enumerate((VIEW, HIDE))]
    rows += [(0, 3, 7, CLICK), (1, 4, 8, CLICK)]
    made = acts(rows)
    made.in_catalogue[-1] = False
    made.in_experiment[0] = True
    found = interactions(made, np.array([3], np.uint64))
    assert found.dropped == {
        "not_in_catalogue": 1,
        "not_positive": 1,
        "quarantined": 1,
        "in_experiment": 1,
        "over_daily_cap": 2,
    }
    assert found.people[found.person].tolist() == [2, 1, 1]
    # the first click was shown by an experiment, and the state has it all the same
    assert found.first.tolist() == [True, False, False]
    assert found.earlier.tolist() == [False, True, True]
    assert len(found.time) + found.dropped.total() == len(rows)


def test_a_bot_moves_no_cut_and_is_not_learnt_from() -> None:
    people = audience()
    in_one_day: Rows = [(n % 1500, 999, 10**6 + n, CLICK) for n in range(20_000)]
    slow: Rows = [(8640 * n // 50, 998, 10**7 + n, CLICK) for n in range(20_000)]
    alone = choose(interactions(acts(people)), 5_000, 1_500)
    with_bot = interactions(acts(people + in_one_day))
    assert with_bot.dropped == {"bot": 20_000}
    chosen = choose(with_bot, 5_000, 1_500)
    assert (chosen.learnt, chosen.judged) == (alone.learnt, alone.judged)
    found = interactions(acts(people + slow))
    assert "bot" not in found.dropped  # 500 a day for forty days
    chosen = choose(found, 5_000, 1_500)
    assert chosen.dropped["over_choices_of_person"] == 20_000 - 1 - dataset.MAX_CHOICES_OF_PERSON
    who = found.people[found.person]
    judged = Counter(who[chosen.judge].tolist())
    assert max(judged.values()) <= dataset.MAX_JUDGED_OF_PERSON
    assert len(judged) > 100


def test_the_cuts_are_shares_of_choices_and_part_the_lists_in_time() -> None:
    found = interactions(acts(audience()))
    chosen = choose(found, 5_000, 1_500)
    choices = found.time[found.first & found.earlier & found.clear]
    first, second = dataset.SHARES[0]
    assert abs((choices // 1000 < chosen.learnt).mean() - first) < 0.1
    assert abs((choices < chosen.judged).mean() - second) < 0.1
    assert (found.time[chosen.train] // 1000 >= chosen.learnt).all()
    assert found.time[chosen.train].max() < chosen.judged <= found.time[chosen.judge].min()
    used = len(chosen.train) + len(chosen.judge)
    before = int((choices // 1000 < chosen.learnt).sum())
    dropped = chosen.dropped
    assert dropped.total() + used + before == len(found.time)


@pytest.mark.parametrize("at_once", [1, 7, 500])
def test_people_are_sorted_some_at_a_time(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = audience(20) + audience(20) + audience(9, 40)
    rows.sort()
    whole = interactions(acts(rows))
    monkeypatch.setattr(dataset, "ACTS_SORTED", at_once)
    some = interactions(acts(rows))
    assert some.dropped == whole.dropped
    for name in ("first", "earlier", "time", "item", "person"):
        assert np.array_equal(getattr(some, name), getattr(whole, name))


def test_what_comes_later_changes_no_earlier_act() -> None:
    rows = audience(20)
    whole = interactions(acts(rows))
    for end in (1, 57, 200):
        shorter = interactions(acts(rows[:end]))
        for name in ("offset", "time", "item", "first", "earlier", "clear"):
            assert np.array_equal(getattr(shorter, name), getattr(whole, name)[:end])


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(0, 1, 1, CLICK)],
        [(100 * n, 1, n, CLICK) for n in range(10_000)],
        [(100 * n, 1 + n, 1, CLICK) for n in range(3_000)],
        [(0, 1 + n % 200, n, CLICK) for n in range(3_000)],
        [(n, 1 + n % 200, n, HIDE) for n in range(3_000)],
    ],
    ids=["nothing", "one act", "one person", "one item", "one second", "one class"],
)
def test_a_log_that_gives_no_choices_is_refused_with_a_sentence(rows: Rows) -> None:
    with pytest.raises(TooLittle, match=r"^the log (is too small|holds nothing)"):
        choose(interactions(acts(rows)), 5_000, 1_500)


def test_views_are_choices_where_there_are_too_few_clear_ones() -> None:
    rows = [(time, person, item, VIEW) for time, person, item, _ in audience()]
    chosen = choose(interactions(acts(rows)), 5_000, 1_500)
    assert len(chosen.judge) > 100
    assert "not_a_choice" not in chosen.dropped


def test_lists_that_teach_nothing_are_dropped_and_counted() -> None:
    rows = np.zeros((7, 2), np.float32)
    rows[5] = [np.nan, 0]
    target = np.array([True, False, True, True, True, False, False])
    found = Lists(rows, target, np.array([2, 1, 1, 3]))
    dropped = Counter[str]()
    kept = sound(found, dropped)
    assert dropped == {"one_class": 2, "not_finite": 1}
    assert (kept.size.tolist(), kept.target.tolist()) == ([2], [True, False])
    none = Lists(rows[:0], target[:0], np.empty(0, np.int64))
    assert len(sound(none, dropped).size) == 0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 200_000),
            st.integers(1, 4),
            st.integers(1, 5),
            st.sampled_from([CLICK, VIEW]),
        ),
        max_size=60,
    )
)
def test_first_acts_and_caps_equal_a_plain_count(rows: Rows) -> None:
    made = acts(rows)
    found = interactions(made)
    seen, people, daily = set(), set(), Counter[tuple[int, int, int]]()
    expected = []
    for n in sorted(range(len(rows)), key=lambda n: (rows[n][0], n)):
        time, person, item, _ = rows[n]
        day = (person, item, time // 86_400)
        if daily[day] < 3:
            expected.append((n, (person, item) not in seen, person in people))
        daily[day] += 1
        seen.add((person, item))
        people.add(person)
    columns = (found.offset.tolist(), found.first.tolist(), found.earlier.tolist())
    assert list(zip(*columns, strict=True)) == expected
    assert len(rows) < MAX_PER_DAY
