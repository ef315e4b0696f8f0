"""What a protocol holds out, and what was known at each choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.apps.evaluate import recent
from infra.apps.evaluate.names import named
from infra.apps.evaluate.protocols import delays, judged, leave_one_out, prequential
from infra.apps.evaluate.protocols.plan import CannotEvaluate, EvaluationPlan, Options
from infra.datasets.acts import Acts
from schemas.times import DAY_MS, HOUR_MS
from tests.support.acts import Row, audience, made

TEN = [(n % 3, n % 4, 100 * n) for n in range(10)]
PLANS: dict[str, Callable[[Acts, Options], EvaluationPlan]] = {
    "prequential": prequential.plan,
    "leave-one-out": leave_one_out.plan,
    "judged": judged.plan,
}
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 50)), min_size=4, max_size=40
)


@given(ROWS, st.sampled_from(["masked", "kept"]), st.sampled_from(["prequential", "leave-one-out"]))
def test_no_history_is_later_than_a_choice_and_no_masked_target_was_had(
    rows: list[Row], seen: str, protocol: str
) -> None:
    options = Options(protocol=protocol, seen=seen)  # type: ignore[arg-type]
    try:
        plan = PLANS[protocol](made(rows), options)
    except CannotEvaluate:
        return
    acts = plan.acts
    assert (np.diff(acts.time) >= 0).all()
    assert (plan.history.time <= plan.split).all()
    assert plan.history.time.max() < plan.now.min()
    assert (acts.time[plan.targets] == plan.now).all()
    for target in plan.targets.tolist():
        own = acts.person[:target] == acts.person[target]
        had = set(acts.item[:target][own].tolist())
        assert own.any() or protocol == "prequential"
        assert seen == "kept" or acts.item[target] not in had


@given(ROWS, st.sampled_from(["7s", "1event", "2events", "1basket", "2baskets"]))
def test_late_state_ends_before_fresh_state_and_holds_acts_of_the_person_alone(
    rows: list[Row], text: str
) -> None:
    basket = [person * 10 + seconds // 20 for person, _, seconds in rows]
    try:
        plan = prequential.plan(made(rows, basket=basket), Options(seen="kept"))
    except CannotEvaluate:
        return
    fresh, frozen = delays.fresh(plan), delays.frozen(plan)
    late = delays.late(plan, delays.parse(text))
    assert (late.place <= fresh.place).all()
    assert (late.now <= fresh.now).all()
    assert (frozen.now == plan.split).all()
    person = plan.acts.person
    for cutoffs in (late, frozen):
        assert (person[cutoffs.place] == person[plan.targets]).all()
        # the person's state ends no earlier than the tables, but for what is not known of the person
        assert (plan.acts.time[cutoffs.place] >= cutoffs.now).all()


def test_prequential_splits_by_time_and_by_baskets() -> None:
    plan = prequential.plan(made(TEN), Options())
    assert plan.split == 800_000
    assert plan.acts.item[plan.targets].tolist() == [0, 1]
    half = prequential.plan(made(TEN), Options(split=0.5, targets=2, seed=3))
    assert (half.split, len(half.targets)) == (500_000, 2)
    lines = [(n // 5, n % 7, n) for n in range(100)]
    baskets = prequential.plan(made(lines, basket=[n // 5 for n in range(100)]), Options())
    assert baskets.split == 90_000  # the first line of the nineteenth of twenty


def test_leave_one_out_asks_a_week_after_all_else() -> None:
    rows = [(0, 0, 1), (0, 1, 2), (0, 2, 9), (1, 1, 3), (1, 3, 4), (2, 5, 5)]
    plan = leave_one_out.plan(made(rows), Options(protocol="leave-one-out"))
    assert plan.acts.item[plan.targets].tolist() == [3, 2]
    assert plan.history.time.tolist() == [1000, 2000, 3000]
    assert plan.now.tolist() == [3000 + 7 * DAY_MS] * 2
    assert plan.excluded["no act before it"] == 1


def test_judged_lists_are_made_before_anything_of_them_is_known() -> None:
    acts = audience(6_000)
    plan = judged.plan(acts, Options(protocol="judged", split=0.3))
    assert plan.size.min() >= judged.MIN_JUDGED
    assert plan.size.max() <= judged.LIST_SIZE
    begins = np.cumsum(plan.size) - plan.size
    for n, begin in enumerate(begins.tolist()):
        own = plan.judged[begin : begin + plan.size[n]]
        assert len(set(plan.acts.person[own].tolist())) == 1
        assert len(set(plan.acts.item[own].tolist())) == len(own)
        assert own.min() >= plan.targets[n]
        assert plan.acts.time[own].min() >= plan.now[n]


def test_what_is_late_is_known_by_time_event_and_basket() -> None:
    rows = [(0, 0, 0), (0, 1, 70), (0, 2, 119), (0, 3, 121), (1, 4, 130), (0, 4, 131), (0, 5, 140)]
    basket = [1, 1, 2, 2, 9, 2, 2]
    plan = prequential.plan(made(rows, basket=basket), Options(split=0.5, targets=0))
    last = len(plan.targets) - 1
    expected = {"60s": (3, 120), "1event": (5, 131), "2events": (3, 121), "1basket": (2, 119)}
    for text, (place, seconds) in expected.items():
        late = delays.late(plan, delays.parse(text))
        assert (late.place[last], late.now[last]) == (place, seconds * 1000), text


@pytest.mark.parametrize("text", ["", "60", "s", "-1s", "1 event", "0event", "1week", "1e3s", "∞s"])
def test_a_delay_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CannotEvaluate, match="--delay"):
        delays.parse(text)


def test_a_delay_that_says_nothing_about_the_data_is_refused() -> None:
    plan = prequential.plan(made(TEN), Options())
    with pytest.raises(CannotEvaluate, match="none"):
        delays.check(delays.parse("1basket"), plan)
    alone = leave_one_out.plan(made(TEN), Options(protocol="leave-one-out", seen="kept"))
    with pytest.raises(CannotEvaluate, match="week after"):
        delays.check(delays.parse("60s"), alone)
    lists = judged.plan(audience(6_000), Options(protocol="judged", split=0.3))
    with pytest.raises(CannotEvaluate, match="judged"):
        delays.check(delays.parse("1event"), lists)


@pytest.mark.parametrize(
    ("rows", "options", "match"),
    [
        ([(0, 0, 1), (1, 0, 2)], Options(), "one item"),
        ([(0, 0, 1), (0, 1, 1), (1, 2, 1)], Options(), "same time"),
        (TEN, Options(split=1.5), "between 0 and 1"),
        (TEN, Options(split=0.0), "between 0 and 1"),
        (TEN, Options(split=0.01), "0.01 of 10 leaves nothing before it"),
        ([(0, 0, 1), (0, 1, 2), (0, 0, 3), (0, 0, 4)], Options(split=0.6), "can be found"),
        ([(0, 0, 1), (1, 1, 2)], Options("leave-one-out"), "nobody has a last choice"),
        (TEN, Options("leave-one-out", split=0.5), "fits no leave-one-out"),
        (TEN, Options("judged"), "take ratings"),
    ],
)
def test_data_that_fit_no_protocol_are_refused_with_a_remedy(
    rows: list[Row], options: Options, match: str
) -> None:
    with pytest.raises(CannotEvaluate, match=match) as refused:
        PLANS[options.protocol](made(rows), options)
    assert refused.value.remedy
    assert refused.value.exit_code == 2


def test_the_window_of_popularity_is_that_by_which_the_history_is_found() -> None:
    # the first ten items are the most popular of all; in each hour another item is chosen by many
    steady = [(p, p % 10, 3_600 * p) for p in range(1_000)]
    hours = [(p, 100 + p // 10, 3_600_000 + 400 * p) for p in range(2_000)]
    assert recent.window(made(steady + hours)) == "1h"
    assert recent.window(made([(p, p % 10, HOUR_MS * p // 1000) for p in range(500)], 60)) == "90d"


def test_data_are_found_by_name_or_the_name_that_was_meant_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "Clicks"
    folder.mkdir(parents=True)
    (folder / "Shop.csv").touch()
    assert named("clicks", {}, tmp_path).path == str(folder)
    assert named("shop", {}, tmp_path) == ("Shop", str(folder / "Shop.csv"))
    assert named(str(folder), {}, tmp_path).name == "Clicks"
    assert named("s3://bucket/lake?region=x", {}, tmp_path).path == "s3://bucket/lake?region=x"
    with pytest.raises(CannotEvaluate, match="did you mean Clicks"):
        named("click", {}, tmp_path)
    for text in ("", "x" * 5_000, "a\0b", "~nobody-of-this-name/set"):
        with pytest.raises(CannotEvaluate, match="one of these sets: Clicks"):
            named(text, {}, tmp_path)
