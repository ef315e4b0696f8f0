"""The report: a hand-worked case for each figure, and the keys that others read."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from infra.apps.demo import report as demo_report
from infra.apps.demo import train, words
from infra.apps.demo.arms import Arms
from infra.apps.demo.live import ReplayOutcome, Scored
from infra.apps.demo.report import Report, Slates
from infra.apps.demo.schedule import Schedule, ScheduledEvent
from infra.apps.demo.train import Trained
from infra.apps.replay.world import Ids
from infra.client import answers
from infra.client.answers import Answer, Freshness, ServedBy
from infra.datasets.movielens import Dataset, Film, Rating

PROMISED = [
    "events",
    "events_per_s",
    "freshness_ms",
    "read_ms",
    "hit_rate_at_10",
    "ndcg_at_10",
    "in_process_equals_live",
    "coverage_at_10",
    "max_category_share_top10",
    "fallback_share",
    "errors",
    "versions",
]
ITEMS = tuple(Film(f"f{n}", f"Film {n}", ("Drama",), "Drama") for n in range(40))
LIVE: Slates = [tuple(f"f{n}" for n in range(start, start + 10)) for start in (0, 5)]


def read(n: int, target: str, relaxed: bool = False) -> Scored:
    served = ServedBy(release="1", index="i", tables="3.4", rules="r0", experiments=())
    shown = [answers.Item(item_id=it, category=f"c{at // 4}") for at, it in enumerate(LIVE[n])]
    slate = Answer(
        slate_id=f"s{n}",
        items=shown,
        freshness=Freshness(position="0:1", waited_ms=4, stale=False),
        served_by=served,
        rules_relaxed=("category_cap",) if relaxed else (),
        fallback="popular" if n else None,
    )
    return Scored(ScheduledEvent(n, Rating("u", target, 4.0, n), True, False), slate, 10.0 + n)


def made(fresh: Slates = LIVE, by_numpy: Slates = LIVE) -> Report:
    outcome = ReplayOutcome(
        reads=[read(0, "f1"), read(1, "f39")],
        freshness_ms=[10.0, 20.0],
        errors=Counter({"read: 500": 2}),
        events=100,
        seconds=0.5,
    )
    unchanging: list[Ids] = [("f9",), ("f9",)]
    slates = (list(fresh), unchanging, unchanging, unchanging, unchanging)
    arms = Arms(*slates, eligible=[20, 40], by_numpy=list(by_numpy))
    return demo_report.report(
        outcome,
        arms,
        Schedule((), ()),
        Dataset(ITEMS, (), "made up"),
        Counter({"event: lost": 1}),
    )


def test_a_report_has_the_promised_keys(tmp_path: Path) -> None:
    path = tmp_path / "a" / "report.json"
    demo_report.write(path, made())
    written = json.loads(path.read_bytes())
    assert list(written)[: len(PROMISED)] == PROMISED
    for name in ("hit_rate_at_10", "ndcg_at_10"):
        assert sorted(written[name]) == sorted(demo_report.ARMS)
    assert written["repeat"] == {"view": "never", "click": "never", "purchase": "never"}
    assert list(written["freshness_ms"]) == ["p50", "p99"]
    assert list(written["read_ms"]) == ["p50", "p95", "p99"]
    assert [it.name for it in path.parent.iterdir()] == ["report.json"]


def test_the_figures_are_right_by_hand() -> None:
    report = made()
    assert report.events_per_s == 200
    assert report.errors == 3
    assert report.freshness_ms == {"p50": 15.0, "p99": 19.9}
    assert report.read_ms["p50"] == 6.5  # 10 and 11, of which 4 were waited
    assert report.hit_rate_at_10["fresh"] == 0.5
    assert report.ndcg_at_10["fresh"] == pytest.approx(0.5 / math.log2(3), abs=1e-4)
    assert report.hit_rate_at_10["random"] == (10 / 20 + 10 / 40) / 2
    assert report.coverage_at_10 == 15 / 40
    assert report.max_category_share_top10 == 0.4
    assert report.fallback_share == 0.5
    assert list(report.versions)[:5] == ["release", "index", "tables", "rules", "python"]


def test_a_slate_whose_cap_was_lifted_does_not_count_for_it() -> None:
    assert demo_report.max_category_share([read(0, "f1", relaxed=True)]) == 0.0


def test_the_same_ids_in_another_order_differ() -> None:
    assert made().in_process_equals_live
    swapped = [LIVE[0], (LIVE[1][1], LIVE[1][0], *LIVE[1][2:])]
    report = made(swapped)
    assert not report.in_process_equals_live
    assert report.in_process_differs == 1
    assert report.differences[0]["tables"] == "3.4"
    assert "1 of 2 live answers are different" in words.verdict(report)
    report = made(by_numpy=swapped)
    assert not report.in_process_equals_live
    assert report.in_process_differs == 1


def test_without_an_answer_nothing_is_equal() -> None:
    none = demo_report.report(
        ReplayOutcome(),
        Arms([], [], [], [], [], [], []),
        Schedule((), ()),
        Dataset(ITEMS, (), ""),
        Counter(),
    )
    assert not none.in_process_equals_live
    assert none.hit_rate_at_10["fresh"] == 0.0


def trained(ranker: str) -> Trained:
    gate = {"ranker": f"{ranker}: NDCG@10 0.2000 against 0.1000"}
    ratio = (1.06, 0.98, 1.15)
    return Trained(id="2026-11-24.1", ranker=ranker, gate=gate, ratio=ratio, judged=150)  # type: ignore[arg-type]


def test_what_the_release_is_worth_is_said_for_better_or_worse() -> None:
    report = made()
    assert "no release" in words.release(report)
    report.release = trained("released")
    assert words.release(report) == (
        "Release 2026-11-24.1 holds on this sample: NDCG@10 0.3155 against 0.0000 without it,"
        " HR@10 0.5000 against 0.0000; on 150 choices held out it has 1.060 of the best rival's NDCG (95 %:"
        " 0.980 to 1.150)."
    )
    report.ndcg_at_10["untrained"] = 0.6
    report.release = trained("refused")
    assert "LOSES" in words.release(report)
    assert "refused" in words.release(report)
    report.release = msgspec.structs.replace(trained("undecided"), id="", kept="2026-11-24.1")
    assert words.release(report).startswith(
        "Release 2026-11-24.1 is kept, and the built-in recipes serve: it has 1.060 of"
    )


def test_a_refused_ranker_is_named() -> None:
    assert "with its ranker: NDCG@10 0.2000" in train.words(trained("released"))
    assert "NOT RELEASED: NDCG@10 0.2000" in train.words(trained("refused"))
    kept = msgspec.structs.replace(trained("undecided"), id="", kept="2026-11-24.1")
    assert "is kept (undecided), the built-in recipes serve: NDCG@10 0.2000" in train.words(kept)
