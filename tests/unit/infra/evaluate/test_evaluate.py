"""An evaluation from acts to its result: shape, figures, masks, delays, ties."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from infra.apps.evaluate import answers
from infra.apps.evaluate.candidate import UNTRAINED
from infra.apps.evaluate.figures import of_equals, of_random
from infra.apps.evaluate.player import PARTITIONS
from infra.apps.evaluate.protocols import delays
from infra.apps.evaluate.protocols.plan import Options, Protocol, Seen
from infra.apps.evaluate.run import Evaluation, evaluate_release, plan
from infra.settings import Settings
from infra.terminal.progress import SilentReporter
from tests.support.acts import Row, audience, made

SETTINGS = Settings(partitions=PARTITIONS)
SILENT = SilentReporter(Console(file=io.StringIO()))
ACTS = audience(2_000)
FIRST_KEYS = {
    "data", "protocol", "delay", "seen", "n", "random", "popularity", "recent_popularity", "sources",
    "released", "slices",
}  # fmt: skip
OF_AN_ARM = {"hr", "ndcg", "hr_lo", "hr_hi", "ndcg_lo", "ndcg_hi", "coverage"}


def evaluated(
    acts: Any = ACTS,
    protocol: Protocol = "prequential",
    *,
    delay: str | None = None,
    seen: Seen = "masked",
    seeds: tuple[int, ...] = (),
    targets: int = 25,
) -> dict[str, Any]:
    options = Options(
        protocol, split=0.3 if protocol == "judged" else None, seen=seen, targets=targets
    )
    asked = Evaluation("made", options, delays.parse(delay) if delay else None, seeds)
    made = evaluate_release(acts, plan(acts, asked), asked, lambda: UNTRAINED, SETTINGS, SILENT)
    found: dict[str, Any] = json.loads(json.dumps(made, allow_nan=False))
    return found


@pytest.mark.parametrize("protocol", ["prequential", "leave-one-out", "judged"])
def test_a_result_has_its_arms_and_their_intervals(protocol: Protocol) -> None:
    found = evaluated(protocol=protocol)
    assert found.keys() >= FIRST_KEYS
    assert (found["protocol"], found["seen"], found["delay"]) == (protocol, "masked", None)
    assert found["served"] == "built_in"
    assert found["released"] == found["built_in"]
    assert found["random"]["ndcg"] < found["random"]["hr"] < 1
    assert {"covisit", "content", "popular_24h", "popular_90d"} <= found["sources"].keys()
    assert found["recent_popularity"]["window"] in ("1h", "24h", "7d", "90d")
    for of in (found["released"], found["popularity"], *found["sources"].values()):
        assert of.keys() >= OF_AN_ARM
        assert of["hr_lo"] <= of["hr"] <= of["hr_hi"]
        assert of["ndcg_lo"] <= of["ndcg"] <= of["ndcg_hi"] <= 1
    best = found["best_source"]
    assert found["sources"][best]["ndcg"] == max(it["ndcg"] for it in found["sources"].values())
    if protocol == "judged":
        assert 0 < found["random"]["hr"] < 1
    if protocol == "leave-one-out":
        assert found["released"]["ndcg_100neg"] >= found["released"]["ndcg_uncapped"]
    if protocol == "prequential":
        assert {"old_people", "new_people"} <= found["slices"].keys()
        assert sum(found["slices"][it]["n"] for it in ("new_people", "old_people")) == found["n"]


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return evaluated()


def test_one_seed_gives_one_result_and_several_their_spread(one: dict[str, Any]) -> None:
    other = evaluated(seeds=(0, 7))
    assert one["released"] == other["released"]
    assert other["seeds"]["seeds"] == [0, 7]
    assert other["seeds"]["released"]["ndcg_sd"] > 0


def shown(found: Mapping[str, Any]) -> float:
    hit_rate: float = found["released"]["hr"]
    return hit_rate


def test_what_a_person_had_is_shown_again_where_it_is_kept() -> None:
    # each person chooses the same two items in turn
    rows: list[Row] = [(n % 5, n // 5 % 2 + 2 * (n % 5), 40 * n) for n in range(200)]
    acts = made(rows, items=60)
    assert shown(evaluated(acts, seen="kept")) > 0.9
    masked = evaluated(made([*rows, (0, 50, 8_000), (1, 51, 8_001)], items=60))
    assert masked["n"] == 2
    assert masked["excluded"]["had before"] == 39


def test_late_state_finds_less_where_people_act_in_bursts() -> None:
    # a person takes three items in a row, always in one order, and then another person does
    rows: list[Row] = [(n // 3, n // 3 % 8 * 3 + n % 3, 300 * (n // 3) + n % 3) for n in range(240)]
    baskets = made(rows, items=60, basket=[n // 3 for n in range(240)])
    fresh = evaluated(baskets, targets=0)
    late = evaluated(baskets, delay="1basket", targets=0)
    assert shown(fresh) > 2 * shown(late)
    assert late["fresh"] == fresh["released"]
    assert late["delay"] == "1basket"
    assert late["ratios"]["fresh"]["ratio_hi"] < 1
    by_event = evaluated(baskets, delay="1event", targets=0)
    assert shown(late) <= shown(by_event) < shown(fresh)


def test_equal_scores_lie_between_the_worst_and_the_best_order_of_them(
    one: dict[str, Any],
) -> None:
    for of in one["sources"].values():
        worst, best = of["ndcg_ties"]
        assert worst <= of["ndcg_uncapped"] <= best
    two = answers.Answers.empty(2)
    two.full[:] = [[1, 0, 0, 50], [0, 4, 45, 50]]  # found first; beyond four candidates
    equals = of_equals(two)
    assert equals["hr_uncapped"] == round((1 + 6 / 46) / 2, 6)
    assert equals["hr_ties"] == [0.5, 1.0]


def test_a_random_order_is_scored_in_closed_form() -> None:
    found = of_random(np.full(3, 100))
    assert found["hr"] == 0.1
    assert found["ndcg"] == round(sum(1 / np.log2(np.arange(2, 12))) / 100, 6)
    assert found["hr_100neg"] == 0.1


@pytest.mark.parametrize(("low", "high"), [(1.0, 5_000.0), (-10.0, 10.0), (0.0, 1e38)])
def test_ratings_of_any_scale_give_figures(low: float, high: float) -> None:
    acts = audience(2_000)
    rated = np.where(acts.target, high, low).astype(np.float32)
    found = evaluated(acts._replace(rated=rated), "judged")
    for of in (found["random"], found["released"], *found["sources"].values()):
        assert 0 < of["ndcg_graded_lo"] <= of["ndcg_graded"] <= of["ndcg_graded_hi"] <= 1
