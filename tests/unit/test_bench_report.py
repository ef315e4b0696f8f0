"""The report's shape is a promise to machines: exactly these keys, whatever part was left out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from infra.cli import bench_cpu, bench_report
from infra.cli.bench_live import Fresh, Reads
from infra.cli.bench_log import Written
from infra.cli.bench_rate import Step
from infra.cli.bench_replay import Replay, Run
from infra.cli.bench_report import FIGURES, grade
from infra.cli.bench_swap import Swap

REPLAY = Replay(
    [
        Run(rate, {"people": us, "rollup": 5.0, "redis": 2.0, "broker": 0.5, "relay": 0.0})
        for rate, us in ((70_000.0, 11.0), (90_000.0, 9.0), (80_000.0, 10.0))
    ],
    [200_000.0, 160_000.0, 180_000.0],
    Written({0: 60, 1: 41}, 100, 7, 101 * 230),
    4,
)
FRESH = {
    name: [Fresh(p50, p99, 100, 9.0, {"edge": edge, "people": 30.0}) for p50, p99 in times]
    for name, edge, times in (
        ("1000", 500.0, ((10.0, 30.0), (12.0, 50.0), (11.0, 35.0))),
        ("5000", 100.0, ((20.0, 70.0), (21.0, 80.0), (22.0, 90.0))),
    )
}
READS = Reads(
    [{"p50": 2.0, "p95": 6.0}, {"p50": 3.0, "p95": 9.0}, {"p50": 2.5, "p95": 7.0}],
    [Step(1000, 999.0, 30.0, 0), Step(1000, 1001.0, 45.0, 0), Step(1000, 1000.0, 33.0, 0)],
    [Step(8000, 8000.0, 10.0, 0)] * 3,
    1_600.0,
    2_900.0,
    {"edge": 900.0},
    522,
    Swap(6, 2_400, 0, 4.5, 500, 0, {"2026-11-24.1": 240, "2026-11-24.2": 260}),
)


def test_the_report_has_exactly_the_promised_shape() -> None:
    made = json.loads(json.dumps(bench_report.report(REPLAY, FRESH, READS)))
    assert {name: made[name] for name in bench_report.EXACTLY} == {
        "freshness_ms": {"1000": {"p50": 11.0, "p99": 35.0}, "5000": {"p50": 21.0, "p99": 80.0}},
        "replay_events_per_s": 80_000.0,
        "cpu_us_per_event": {
            "people": 10.0,
            "rollup": 5.0,
            "redis": 2.0,
            "broker": 0.5,
            "relay": 0.0,
            "edge": 100.0,
            "edge_single": 500.0,
        },
        "reads": {
            "at_300": {"p50_ms": 2.5, "p95_ms": 7.0},
            "best": {"requests_per_s": 1000.0, "p95_ms": 33.0},
            "bare_route": {"requests_per_s": 8000.0},
        },
        "ratio_to_bare": 0.125,
        "redis_bytes_per_user": 1600.0,
    }
    assert made["replay"]["share_of_bare_consumer"] == pytest.approx(80 / 180, abs=1e-4)
    assert (made["replay"]["records"], made["replay"]["distinct_events"]) == (101, 100)


def test_every_number_is_finite() -> None:
    def walk(value: object) -> list[float]:
        if isinstance(value, dict):
            return [number for it in value.values() for number in walk(it)]
        if isinstance(value, list):
            return [number for it in value for number in walk(it)]
        return [float(value)] if isinstance(value, int | float) else []

    assert all(map(math.isfinite, walk(bench_report.report(REPLAY, FRESH, READS))))


@pytest.mark.parametrize(
    ("parts", "absent"),
    [
        ((REPLAY, None, None), {"freshness_ms", "reads", "ratio_to_bare", "redis_bytes_per_user"}),
        (
            (None, FRESH, None),
            {"replay_events_per_s", "reads", "ratio_to_bare", "redis_bytes_per_user"},
        ),
        ((None, None, READS), {"freshness_ms", "replay_events_per_s", "cpu_us_per_event"}),
    ],
)
def test_a_part_left_out_is_null_and_the_keys_stay(
    parts: tuple[Replay | None, dict[str, list[Fresh]] | None, Reads | None], absent: set[str]
) -> None:
    made = bench_report.report(*parts)
    assert {name for name in bench_report.EXACTLY if made[name] is None} == absent
    assert 1 <= len(bench_report.rows(*parts)) <= 4
    assert bench_report.remarks(made)


def test_the_table_shows_median_noise_and_mark() -> None:
    rows = bench_report.rows(REPLAY, FRESH, READS)
    assert [row.measured for row in rows] == [
        "80,000",
        "35.0",
        "80.0",
        "7.0",
        "1,000",
        "1,600",
        "0.0",
    ]
    assert [row.ok for row in rows] == ["aim", "aim", "floor", "aim", "floor", "floor", "aim"]
    assert rows[0].noise == "70,000 to 90,000"
    assert (rows[0].floor, rows[3].floor) == ("≥ 30,000", "≤ 20.0")
    assert all(
        row.name.endswith(figure.unit) or figure.unit in row.name
        for row, figure in zip(rows, FIGURES, strict=True)
    )


def test_remarks_name_the_ceilings() -> None:
    said = " ".join(bench_report.remarks(bench_report.report(REPLAY, FRESH, READS)))
    assert "44% of it" in said
    assert "8,000 requests/s: reads are 12% of it" in said


@pytest.mark.parametrize("figure", FIGURES)
def test_marks_count_as_reached(figure: bench_report.Figure) -> None:
    worse = 1 if figure.most else -1
    assert grade(figure, figure.aim) == "aim"
    if figure.floor != figure.aim:
        assert grade(figure, figure.floor) == "floor"
        assert grade(figure, figure.aim + worse) == "floor"
    assert grade(figure, figure.floor + worse) == "below"


def test_cpu_is_read_past_any_process_name(tmp_path: Path) -> None:
    fields = " ".join(str(number) for number in range(3, 53))
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"7 (a) b (c)) {fields}\n")
    ticks = 100
    assert bench_cpu.cpu_seconds(7, tmp_path) == pytest.approx((14 + 15) / ticks, rel=0.5)
    assert bench_cpu.cpu_seconds(8, tmp_path) == 0.0


def test_cpu_per_event_is_the_difference() -> None:
    before, after = {"people": 1.0, "redis": 0.5}, {"people": 3.0, "redis": 0.5}
    assert bench_cpu.per_event(before, after, 100_000) == {"people": 20.0, "redis": 0.0}


def test_machine_and_versions_say_what_was_measured() -> None:
    machine, versions = bench_cpu.machine(), bench_cpu.versions()
    assert machine["cores"]
    assert machine["python"]
    assert "kafka-python" in versions


def test_others_are_what_is_busy_and_not_ours() -> None:
    others = bench_cpu.Neighbours().cores()
    assert others is None or others >= 0


@pytest.mark.parametrize(("cores", "told"), [(None, False), (0.05, False), (0.8, True)])
def test_a_busy_machine_is_told(cores: float | None, told: bool) -> None:
    made = bench_report.report(REPLAY, None, None) | {"machine": {"cores_used_by_others": cores}}
    assert ("used 0.8 cores" in " ".join(bench_report.remarks(made))) is told
