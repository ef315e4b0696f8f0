"""The simulated half of the demo: its outcomes, its counts, and its report."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from infra.apps.demo import crowd, experiment, figures, panel, words
from infra.apps.demo import report as demo_report
from infra.apps.demo.arms import Arms
from infra.apps.demo.crowd import Crowd
from infra.apps.demo.experiment import NO_METRICS
from infra.apps.demo.live import ReplayOutcome
from infra.apps.demo.population import events_of, variant
from infra.apps.demo.schedule import Schedule
from infra.apps.demo.seen import Seen, Tally
from infra.client.answers import Answer, Assigned, ExperimentMetrics, Freshness, Item, ServedBy
from infra.datasets.movielens import Dataset, Film
from models.simulator.people import Look
from schemas.control_checks import check_experiment
from schemas.readouts import Comparison, MetricOut, VariantOut

COUNTS = {"served": 100, "displayed": 40, "clicked": 6, "converted": 1}


def seen() -> Seen:
    found = Seen(people=4, seconds=2.0, items=50)
    found.variants["popularity"] = Tally(10, 100, 40, 6, 1, 0, 5.0)
    found.variants["personal"] = Tally(10, 100, 40, 9, 2, 3, 8.0)
    found.shown.update(f"f{n}" for n in range(20))
    found.freshness_ms += [10.0, 20.0]
    found.errors["read: 503"] = 1
    found.events = 80
    return found


def metrics(
    lift: float | None = 0.5, ci: tuple[float, float] | None = (0.1, 0.9), clicked: int = 6
) -> ExperimentMetrics:
    better = {**COUNTS, "clicked": 9, "converted": 2}
    return ExperimentMetrics(
        version=1,
        variants=(
            arm("popularity", {**COUNTS, "clicked": clicked}, (0.04, 0.08)),
            arm("personal", better, (0.05, 0.13)),
        ),
        comparisons=(compared("conversion", -0.9, (-1.0, -0.8)), compared("ctr", lift, ci)),
    )


def arm(name: str, counts: dict[str, int], ci: tuple[float, float]) -> VariantOut:
    clicked = counts["clicked"]
    ctr = MetricOut(value=clicked / 100, ci=ci, numerator=clicked, denominator=100)
    return VariantOut(variant=name, share=0.5, units=2, counts=counts, metrics={"ctr": ctr})


def compared(metric: str, lift: float | None, ci: tuple[float, float] | None) -> Comparison:
    return Comparison(
        metric=metric,
        control="popularity",
        treatment="personal",
        lift=lift,
        ci=ci,
        alpha=0.05,
        method="delta",
    )


def look(examined: list[int], clicked: list[int], bought: list[int]) -> Look:
    def mask(ranks: list[int]) -> Any:
        return np.isin(np.arange(1, 4), ranks)

    return Look(mask(examined), mask(clicked), mask(bought), np.zeros(3))


def slate(variant: str | None = "personal") -> Answer:
    assigned = (Assigned(id="home-ranker", version=1, variant=variant),) if variant else ()
    return Answer(
        slate_id="s1",
        items=[Item(item_id=name, category="") for name in "abc"],
        fallback=None,
        rules_relaxed=(),
        freshness=Freshness(position=None, waited_ms=0, stale=False),
        served_by=ServedBy(release="1", index="i", tables="0", rules="r0", experiments=assigned),
    )


def test_outcomes_are_sent_with_slate_and_rank_once() -> None:
    events = events_of("sim-0001", slate(), look([1, 3], [3], [3]))
    assert [(it.item_id, it.action, it.rank) for it in events] == [
        ("a", "display", 1),
        ("c", "display", 3),
        ("c", "click", 3),
        ("c", "purchase", 3),
    ]
    assert {it.slate_id for it in events} == {"s1"}
    assert len({it.event_id for it in events}) == 4


def test_a_slate_in_no_experiment_is_of_no_variant() -> None:
    assert variant(slate(None)) == ""
    assert variant(slate()) == "personal"


def test_the_experiment_is_one_that_control_takes() -> None:
    check_experiment(experiment.EXPERIMENT_ID, experiment.EXPERIMENT)


def test_counts_are_compared_state_by_state() -> None:
    sent = {name: tally.states for name, tally in seen().variants.items()}
    assert experiment.counted(metrics(), sent)
    assert not experiment.counted(metrics(clicked=7), sent)
    assert not experiment.counted(NO_METRICS, sent)
    assert not experiment.counted(metrics(), {})


def test_the_report_says_what_the_api_said_and_what_is_true() -> None:
    held = figures.experiment(seen(), metrics(), True)
    control, treatment = held.variants
    assert (control.variant, control.units, control.clicked) == ("popularity", 2, 6)
    assert (control.ctr, control.ci, control.true_ctr) == (0.06, (0.04, 0.08), 0.05)
    assert treatment.true_ctr == 0.08
    assert (held.lift, held.lift_ci) == (0.5, (0.1, 0.9))
    assert held.true_lift == pytest.approx(0.6)


def test_the_report_gains_what_others_read(tmp_path: Path) -> None:
    catalogue = Dataset((Film("f", "Film", ()),), (), "made up")
    report = demo_report.report(
        ReplayOutcome(), Arms([], [], [], [], [], [], []), Schedule((), ()), catalogue, Counter()
    )
    crowd.add(report, Crowd(seen(), metrics(), True))
    path = tmp_path / "report.json"
    demo_report.write(path, report)
    written = msgspec.json.decode(path.read_bytes())
    assert written["ctr"] == {"popularity": 0.06, "personal": 0.09}
    assert written["explored_share"] == 3 / 200
    assert written["coverage"] == 20 / 50
    assert written["experiment"]["counts_match"] is True
    assert written["population"]["slates_per_s"] == 10
    assert written["population"]["freshness_ms"] == {"p50": 15.0, "p99": 19.9}
    assert written["population"]["true_ctr"] == {"popularity": 0.05, "personal": 0.08}
    assert written["errors"] == 1
    assert written["errors_by_kind"] == {"read: 503": 1}


@pytest.mark.parametrize(
    ("lift", "ci", "word"),
    [
        (0.5, (0.1, 0.9), "personal beats popularity"),
        (0.1, (-0.2, 0.4), "do not separate personal from popularity"),
        (-0.3, (-0.5, -0.1), "LOSES"),
        (None, None, "has no lift"),
    ],
)
def test_the_panel_says_which_variant_wins(
    lift: float | None, ci: tuple[float, float] | None, word: str
) -> None:
    held = figures.experiment(seen(), metrics(lift, ci), True)
    assert word in words.winner(held)


def test_the_panel_says_where_counts_differ() -> None:
    same = figures.experiment(seen(), metrics(), True)
    assert "is what was sent, slot by slot: 200 served, 15 clicked" in words.counts(same)
    other = figures.experiment(seen(), metrics(clicked=7), False)
    assert words.counts(other) == (
        "What the API counted is NOT what was sent: popularity clicked: 7 counted, 6 sent."
    )


@pytest.mark.parametrize("width", [80, 120])
def test_the_panel_fits_a_terminal(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(panel.panel(seen(), metrics()))
    console.print(panel.panel(seen(), NO_METRICS))
    shown = console.export_text()
    assert len([row for row in shown.splitlines() if "personal  " in row and "9.00%" in row]) == 1
    assert "personal over popularity: +50% clicks a slot (95 %: +10% to +90%)" in shown
    assert "40% of the catalogue shown" in shown


def test_the_panel_says_where_the_truth_is_outside_of_its_interval() -> None:
    held = figures.experiment(seen(), metrics(), True)
    assert "lie in their intervals" in words.interval_check(held)
    assert "NOT" not in words.interval_check(held)
    held.variants[1].true_ctr = 0.2
    assert "NOT all" in words.interval_check(held)
    assert "NOT all" in words.interval_check(figures.experiment(seen(), NO_METRICS, True))
