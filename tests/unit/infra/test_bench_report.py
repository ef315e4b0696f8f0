"""The report's shape is a promise to machines: exactly these keys, whatever section was skipped."""

from __future__ import annotations

import json
import math
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from infra.apps.bench import cpu, report
from infra.apps.bench.audience import WrittenLog
from infra.apps.bench.door import Besieged
from infra.apps.bench.figures import FIGURES, REBUILD, Figure, grade
from infra.apps.bench.freshness import Fresh, FreshRuns
from infra.apps.bench.imports import Imported, Imports
from infra.apps.bench.lake import Beside
from infra.apps.bench.pages import BesidePages
from infra.apps.bench.rate import RateStep
from infra.apps.bench.reads import Reads
from infra.apps.bench.rebuild import Rebuild
from infra.apps.bench.replay import Consumed, ReplayFigures, Run
from infra.apps.bench.results import Results
from infra.apps.bench.rounds import Rounds
from infra.apps.bench.steady import Steady
from infra.apps.bench.swap import Swap
from infra.apps.bench.verify import Verified
from infra.apps.bench.writes.batches import Batches
from infra.apps.bench.writes.components import Components, Loaded
from infra.apps.bench.writes.post import PostRound, Posts
from infra.apps.bench.writes.strangers import Strangers
from infra.apps.bench.writes.timeline import Stages

REPLAY = ReplayFigures(
    [
        Run(rate, {"people": us, "rollup": 5.0, "redis": 2.0, "broker": 0.5, "relay": 0.0})
        for rate, us in ((70_000.0, 11.0), (90_000.0, 9.0), (80_000.0, 10.0))
    ],
    [Consumed(rate, 9.5) for rate in (200_000.0, 160_000.0, 180_000.0)],
    WrittenLog({0: 60, 1: 41}, 100, 7, 101 * 230),
    4,
)
ROUNDS = Rounds(
    REPLAY,
    [Beside(rate, 0.4) for rate in (68_000.0, 81_000.0, 76_000.0)],
    [
        Rebuild(rate, reading, 1.0, 0.2)
        for rate, reading in ((150_000.0, 900_000.0), (180_000.0, 1_000_000.0), (170_000.0, 1.1e6))
    ],
)
VERIFIED = [Verified(rate, 222_200, 9_000) for rate in (40_000.0, 60_000.0, 45_000.0)]
SIZES = Batches(1_000, 250, 900, 100)
FRESH = FreshRuns(
    {
        name: [
            Fresh(p50, p99, 100, 9.0, {"edge": edge, "people": 30.0}, SIZES) for p50, p99 in times
        ]
        for name, edge, times in (
            ("1000", 500.0, ((10.0, 130.0), (12.0, 150.0), (11.0, 99.0))),
            ("5000", 100.0, ((20.0, 170.0), (21.0, 280.0), (22.0, 290.0))),
            ("1000_neighbours", 700.0, ((50.0, 300.0), (40.0, 200.0))),
        )
    },
    {
        "1000": Stages(
            {"p50": 4.0, "p99": 9.0}, {"p50": 5.0, "p99": 20.0}, {"p50": 1.0, "p99": 7.0}, 100
        )
    },
)
POSTS = Posts(
    [
        PostRound(post, fastapi, 250.0, 90.0, 12.0)
        for post, fastapi in ((400.0, 200.0), (300.0, 300.0), (330.0, 300.0))
    ],
    [RateStep(2_400, reached, 60.0, 0) for reached in (2_390.0, 2_400.0, 2_401.0)],
    [RateStep(5_000, 5_000.0, 60.0, 0)] * 3,
)
COMPONENTS = Components(
    {"edge": 2.4, "people": 1.7},
    [Loaded({"edge": 400.0, "people": us}, SIZES, 20.0) for us in (200.0, 260.0, 220.0)],
)
ROLLUP = {"10000": [90.0, 100.0, 95.0], "1000000": [5_000.0, 5_400.0, 5_200.0]}
READS = Reads(
    [
        Steady({"p50": p50, "p95": p95}, {"edge": 900.0}, served, 250.0)
        for p50, p95, served in ((2.0, 6.0, 500.0), (3.0, 9.0, 600.0), (2.5, 7.0, 550.0))
    ],
    [{"p50": 9.0, "p95": 30.0}],
    [
        BesidePages(
            {"p50": 1.0, "p95": 2.0, "max": 8.0}, {"p50": 3.0, "p95": 20.0, "max": most}, 40, 90.0
        )
        for most in (40.0, 60.0, 70.0)
    ],
    [
        RateStep(1000, 999.0, 30.0, 0),
        RateStep(1000, 1001.0, 45.0, 0),
        RateStep(1000, 1000.0, 33.0, 0),
    ],
    [RateStep(8000, 8000.0, 10.0, 0)] * 3,
    1_600.0,
    2_900.0,
    522,
    Swap(6, 2_400, 0, 4.5, 500, 0, {"2026-11-24.1": 240, "2026-11-24.2": 260}),
)


IMPORTS = Imports(
    [Imported(40_000.0, 120_000.0, 180_000.0, {"edge": 20.0, "import": 4.0})] * 3,
    140_000_000,
    1_000_000,
)
ATTACKS = {
    "an endless header": [Besieged(2.0, p99, 0.5, 6_000_000) for p99 in (2.2, 2.6, 2.4)],
    "500 slow bodies": [Besieged(2.0, 2.1, 0.1, 9_000_000)],
}
STRANGERS = Strangers({100_000: 17_000_000, 1_000_000: 24_100_000}, 80_000, 9.6, 4)
WHOLE = Results(
    ROUNDS, VERIFIED, POSTS, ATTACKS, FRESH, COMPONENTS, ROLLUP, READS, IMPORTS, STRANGERS
)


def test_the_report_has_exactly_the_promised_shape() -> None:
    made = json.loads(json.dumps(report.report(WHOLE)))
    assert {name: made[name] for name in report.REQUIRED_KEYS} == {
        "freshness_ms": {
            "1000": {"p50": 11.0, "p99": 130.0},
            "5000": {"p50": 21.0, "p99": 280.0},
            "1000_neighbours": {"p50": 45.0, "p99": 250.0},
            "5000_neighbours": None,
        },
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
            "at_300_neighbours": {"p50_ms": 9.0, "p95_ms": 30.0},
            "at_100_beside_pages": {
                "alone": {"p50": 1.0, "p95": 2.0, "max": 8.0},
                "beside": {"p50": 3.0, "p95": 20.0, "max": 60.0},
                "page_ms": 90.0,
            },
            "best": {"requests_per_s": 1000.0, "p95_ms": 33.0},
            "bare_route": {"requests_per_s": 8000.0},
        },
        "ratio_to_bare": 0.125,
        "redis_bytes_per_user": 1600.0,
        "post": {"cpu_us": 330.0, "ratio_to_bare_fastapi": 1.1, "single_worker_per_s": 2400.0},
        "bare_fastapi": 300.0,
        "bare_guarded": 250.0,
        "cpu_us_per_event_at_1000": {"edge": 400.0, "people": 220.0, "sum": 620.0},
        "idle_percent": {"edge": 2.4, "people": 1.7, "sum": 4.1},
        "people": {"replay_us": 10.0, "at_1000_us": 220.0, "bare_consumer_us": 9.5},
        "rollup": {"us_per_entry": {"10000": 95.0, "1000000": 5200.0}},
        "served_record": {"us": 550.0, "ratio_to_bare_guarded": 2.2},
        "replay_ratio_to_consumer": 0.4444,
    }
    assert made["replay"]["share_of_bare_consumer"] == pytest.approx(80 / 180, abs=1e-4)
    assert (made["replay"]["records"], made["replay"]["distinct_events"]) == (101, 100)


def test_the_most_memory_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tpython\nVmHWM:\t   2048 kB\nVmRSS:\t 1024 kB\n")
    assert (cpu.peak_memory(7, tmp_path), cpu.peak_memory(8, tmp_path)) == (2048 * 1024, 0)


def test_every_number_is_finite() -> None:
    def walk(value: object) -> list[float]:
        if isinstance(value, dict):
            return [number for it in value.values() for number in walk(it)]
        if isinstance(value, list):
            return [number for it in value for number in walk(it)]
        return [float(value)] if isinstance(value, int | float) else []

    assert all(map(math.isfinite, walk(report.report(WHOLE))))


def test_interleaved_figures_are_shares_of_the_live_replay() -> None:
    made = report.report(WHOLE)
    assert made["lake"] == {
        "cost_percent": 5.0,
        "events_per_s": {"alone": 80_000.0, "beside": 76_000.0},
        "runs": [68_000.0, 81_000.0, 76_000.0],
        "written_by_then": 0.4,
    }
    assert made["rebuild"] == {
        "events_per_s": 170_000.0,
        "times_live_replay": 2.125,
        "reading_events_per_s": 1_000_000.0,
        "share_of_reading": 0.17,
        "runs": [150_000.0, 180_000.0, 170_000.0],
        "start_s": 1.0,
        "fill_s": 0.2,
        "exact": True,
    }
    assert made["verify"] == {
        "events_per_s": 45_000.0,
        "runs": [40_000.0, 60_000.0, 45_000.0],
        "events": 222_200,
        "fields": 9_000,
        "mismatches": 0,
    }


REPLAYED = {"replay_events_per_s", "replay_ratio_to_consumer", "cpu_us_per_event", "people"}
LOADED = {
    *("freshness_ms", "reads", "ratio_to_bare", "redis_bytes_per_user", "served_record"),
    *("post", "bare_fastapi", "bare_guarded", "cpu_us_per_event_at_1000", "idle_percent"),
}


@pytest.mark.parametrize(
    ("results", "absent"),
    [
        (
            Results(ROUNDS),
            LOADED | {"rollup"},
        ),
        (Results(verified=VERIFIED), set(report.REQUIRED_KEYS)),
        (
            Results(fresh=FRESH),
            {*LOADED, *REPLAYED, "rollup"} - {"freshness_ms", "cpu_us_per_event"},
        ),
        (
            Results(posts=POSTS),
            {*LOADED, *REPLAYED, "rollup"} - {"post", "bare_fastapi", "bare_guarded"},
        ),
        (
            Results(components=COMPONENTS),
            {*LOADED, *REPLAYED, "rollup"} - {"cpu_us_per_event_at_1000", "idle_percent", "people"},
        ),
        (Results(rollup=ROLLUP), LOADED | REPLAYED),
        (Results(strangers=STRANGERS), LOADED | REPLAYED | {"rollup"}),
        (
            Results(reads=READS),
            {*LOADED, *REPLAYED, "rollup"}
            - {"reads", "ratio_to_bare", "redis_bytes_per_user", "served_record"},
        ),
    ],
)
def test_a_skipped_section_is_null_and_the_keys_stay(results: Results, absent: set[str]) -> None:
    made = report.report(results)
    assert {name for name in report.REQUIRED_KEYS if made[name] is None} == absent
    assert len(report.rows(results)) <= 6
    assert report.remarks(made) or results.verified


def test_a_report_holds_only_the_figures_that_were_asked_for() -> None:
    results = Results(ROUNDS._replace(lake=[], rebuild=[]))
    made = report.report(results)
    assert not {"lake", "rebuild", "verify"} & made.keys()
    assert len(report.rows(results)) == 1


def test_the_table_shows_median_noise_and_mark() -> None:
    rows = report.rows(WHOLE)
    assert [(row.measured, row.ok) for row in rows] == [
        ("80,000", "aim"),
        ("5.0", "aim"),
        ("170,000", "aim"),
        ("45,000", "floor"),
        ("110", "floor"),
        ("2,400", "floor"),
        ("120", "aim"),
        ("9.0", "aim"),
        ("130", "floor"),
        ("280", "floor"),
        ("17.0", "aim"),
        ("24.1", "floor"),
        ("7.0", "floor"),
        ("30.0", "floor"),
        ("60.0", "floor"),
        ("12.5", "below"),
        ("1,600", "floor"),
        ("0.0", "aim"),
        ("22.2", "floor"),
        ("66.7", "floor"),
        ("140", "aim"),
    ]
    assert [row.noise for row in rows[:2]] == ["70,000 to 90,000", "2.9 to 10.0"]
    assert (rows[0].floor, rows[12].floor) == ("≥ 30,000", "≤ 20.0")
    assert all(
        figure.unit in row.name and row.name.startswith(figure.name)
        for row, figure in zip(rows, FIGURES, strict=True)
    )


def test_a_rebuild_is_held_to_twice_the_replay_beside_it_and_says_so() -> None:
    row = report.rows(WHOLE)[2]
    assert row.floor == "≥ 160,000"
    assert "(2.1 x the live replay, 17% of reading alone)" in row.name
    slower = [it._replace(events_per_s=155_000.0) for it in ROUNDS.rebuild]
    held = report.rows(Results(ROUNDS._replace(rebuild=slower)))[2]
    assert held.ok == grade(REBUILD._replace(floor=160_000), 155_000) == "below"


def test_remarks_name_the_ceilings() -> None:
    said = " ".join(report.remarks(report.report(WHOLE)))
    assert "44% of it" in said
    assert "76,000 events/s instead of 80,000; by its end 40% of the log" in said
    assert "Reading the lake alone, in one process, does 1,000,000 events/s" in said
    assert "8,000 requests/s: reads are 12% of it" in said
    assert "a single POST costs the edge 330 µs of CPU without reads" in said
    assert (
        "2,400 single POSTs/s with p99 < 100 ms, a bare route of FastAPI 5,000 requests/s" in said
    )
    assert "11.0/130.0 ms (p50/p99), beside busy loops 45.0/250.0 ms (p50/p99); of another" in said
    assert "Records a batch: 4.0 in the log, 9.0 in people." in said
    assert "an endless header 2.0 to 2.4 ms, 6.0 MB; 500 slow bodies 2.0 to 2.1 ms, 9.0 MB." in said
    assert "cost 620 µs of CPU an event: edge 400, people 220." in said
    assert "17.0 MB after 100,000, 24.1 MB after 1,000,000; the rings hold 80,000." in said
    assert "95 µs with 10,000 items and 5,200 µs with 1,000,000 items" in said
    assert "Reads at 300/s beside busy loops: p95 30.0 ms" in said


@pytest.mark.parametrize("figure", FIGURES)
def test_marks_count_as_reached(figure: Figure) -> None:
    worse = 1 if figure.lower_is_better else -1
    assert grade(figure, figure.aim) == "aim"
    if figure.floor != figure.aim:
        assert grade(figure, figure.floor) == "floor"
        assert grade(figure, figure.aim + worse) == "floor"
    assert grade(figure, figure.floor + worse) == "below"


def test_the_cpu_of_a_process_is_that_of_all_its_threads() -> None:
    mine = cpu.cpu_seconds(os.getpid())
    busy = threading.Thread(target=sum, args=(range(200_000),))
    busy.start()
    busy.join()
    used = time.process_time()
    assert mine < cpu.cpu_seconds(os.getpid())
    assert used <= cpu.cpu_seconds(os.getpid()) <= time.process_time()
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert cpu.cpu_seconds(ended.pid) == 0.0


def test_what_a_process_uses_without_work_is_not_the_works() -> None:
    before, after = {"edge": 1.0, "redis": 1.0}, {"edge": 3.0, "redis": 1.01}
    idle = {"edge": 0.1, "redis": 0.1}
    assert cpu.without_idle(before, after, idle, 5.0) == {"edge": 2.5, "redis": 1.0}


def test_cpu_per_event_is_the_difference() -> None:
    before, after = {"people": 1.0, "redis": 0.5}, {"people": 3.0, "redis": 0.5}
    assert cpu.per_event(before, after, 100_000) == {"people": 20.0, "redis": 0.0}


def test_machine_and_versions_say_what_was_measured() -> None:
    machine, versions = cpu.machine(), cpu.versions()
    assert machine["cores"]
    assert machine["python"]
    assert {"freshet-recommender", "kafka-python"} <= versions.keys()


def test_cores_used_by_others_are_measured_or_none() -> None:
    others = cpu.Neighbours().cores()
    assert others is None or others >= 0


@pytest.mark.parametrize(("cores", "remarked"), [(None, False), (0.05, False), (0.8, True)])
def test_a_busy_machine_is_remarked(cores: float | None, remarked: bool) -> None:
    made = report.report(Results(ROUNDS)) | {"machine": {"cores_used_by_others": cores}}
    assert ("used 0.8 cores" in " ".join(report.remarks(made))) is remarked
