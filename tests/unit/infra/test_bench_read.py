"""The figures of one read: what is in `read.json`, and the lines of the table."""

from __future__ import annotations

import numpy as np
import pytest

from infra.apps.bench.read import figures, measure, probes
from infra.apps.bench.read.figures import Measured, ReadRun
from infra.apps.bench.read.in_process import DecideTimes
from infra.apps.bench.read.index import IndexFigures, figures_of
from infra.apps.bench.read.probes import Load, WorkerFigures
from infra.apps.bench.read.token_check import TokenTimes
from infra.apps.inspect.scrape import read
from models.release import content
from schemas.items import Item
from serving.world.catalogue import ItemTable
from serving.world.index import SCAN, USEARCH, ContentIndex

KEYS = {
    *("items", "retrieval", "k", "fine", "recall_at_1000", "recall_of_top_100", "requests_per_s"),
    *(
        "recs_per_s",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "at_half_load",
        "cpu_us_serving",
        "cpu_us_system",
    ),
    *("cpu_us_by_stage", "bare_guarded", "bare_fastapi", "ratio_serving", "ratio_system"),
    *(
        "longest_turn_ms",
        "bytes_per_item",
        "build_s_per_million",
        "worker_ready_s",
        "worker_rss_mb",
    ),
    *("new_item_visible_ms", "cpu_s_per_million_recs"),
}
OF_THE_FIRST = {"decide_us", "decide_python_us", "bare_in_process_us", "token_check_us"}


def load(rate: float, us: float, lag: float = 0.0) -> Load:
    latency = {"p50": 2.0, "p95": 4.0, "p99": 6.0}
    return Load(rate, latency, us, us * 1.5, {"retrieve": 30.0, "rank": 20.0}, lag)


def run(us: float, bare: float) -> ReadRun:
    return ReadRun(load(1_000, us, us / 40), load(500, us + 9), load(5_000, bare), load(3_000, 110))


def measured(retrieval: str, decide: DecideTimes | None) -> Measured:
    index, worker = IndexFigures(0.99, 1.0, 480.0, 50.0), WorkerFigures(2.5, 160.0, 12.0)
    runs = [run(600, 100), run(400, 100), run(450, 90)]
    tokens = [TokenTimes("EdDSA", 120.0, 1.5, 100.0)] if decide else []
    return Measured(10_000, retrieval, runs, index, worker, decide, tokens)


def test_an_object_has_the_keys_that_are_promised_and_medians() -> None:
    first = figures.document(measured("usearch", DecideTimes(80, 1200, 30)), 1_000, 100)
    second = figures.document(measured("scan", None), 1_000, 100)
    assert first.keys() == KEYS | OF_THE_FIRST
    assert second.keys() == KEYS
    assert (first["cpu_us_serving"], first["cpu_us_system"]) == (450, 675)
    assert first["ratio_serving"] == 5.0
    assert first["ratio_system"] == 7.5
    assert first["recs_per_s"] == 10_000
    assert first["cpu_s_per_million_recs"] == 67.5
    assert first["at_half_load"] == {
        **{"requests_per_s": 500, "p50_ms": 2, "p95_ms": 4, "p99_ms": 6}
    }
    assert first["bare_guarded"] == {"requests_per_s": 5_000, "cpu_us": 100}
    assert first["bare_fastapi"] == {"requests_per_s": 3_000, "cpu_us": 110}


def test_the_table_has_the_decision_once_and_each_retrieval_its_own_floor() -> None:
    lines = figures.rows(measured("usearch", DecideTimes(80, 1200, 32)))
    assert [(it.floor, it.aim, it.measured, it.ok) for it in lines] == [
        ("≤ 3", "≤ 2", "2.50", "floor"),
        ("≤ 2", "≤ 2", "1.20", "aim"),
        ("≤ 5", "≤ 5", "1.50", "aim"),
        ("≤ 7.5", "≤ 5", "5.00", "aim"),
        ("≤ 9", "≤ 6", "7.50", "floor"),
        ("≥ 0.15", "≥ 0.25", "0.20", "floor"),
        ("≤ 30", "≤ 15", "11.25", "aim"),
    ]
    assert lines[3].noise == "4.00 to 6.00"
    lines = figures.rows(measured("scan", None))
    assert (lines[0].floor, lines[0].aim, lines[0].ok) == ("≤ 6", "≤ 4", "floor")
    assert len(lines) == 4
    # without a kernel nothing is compiled
    assert len(figures.rows(measured("usearch", DecideTimes(None, 1200, 32)))) == 6


def test_what_is_said_below_the_table() -> None:
    made = figures.document(measured("usearch", DecideTimes(80, 1200, 32)), 1_000, 100)
    said = " ".join(figures.remarks(made))
    for piece in ("usearch, 10,000 items", "retrieve 30, rank 20", "99.0%", "Python's 1,200"):
        assert piece in said
    assert len(figures.remarks(figures.document(measured("scan", None), 1_000, 100))) == 3


def test_stages_in_which_a_read_waits_are_no_cpu() -> None:
    def samples(n: int) -> str:
        return "".join(
            f'freshet_stage_seconds_{kind}{{stage="{stage}"}} {value}\n'
            for stage in ("read", "queue", "rank")
            for kind, value in (("sum", n * 2e-5), ("count", n))
        )

    before, after = (
        [read("# TYPE freshet_stage_seconds histogram\n" + samples(n))] for n in (9, 19)
    )
    assert probes.by_stage(before, after) == {"rank": 20.0}
    assert probes.by_stage(after, after) == {}


def test_a_population_is_seeded_and_of_the_size_asked_for() -> None:
    one = measure.population(400)
    assert len(one.items) == 400
    assert len({it.title for it in one.items}) == 400
    assert len(one.ratings) == measure.MIN_RATINGS
    assert len({it.user_id for it in one.ratings}) == measure.MIN_PEOPLE
    assert one == measure.population(400)


@pytest.mark.parametrize(("exact", "retrieval"), [(10_000, USEARCH), (10, USEARCH), (10, SCAN)])
def test_recall_is_measured_against_every_item(exact: int, retrieval: str) -> None:
    items = ItemTable()
    for number in range(1_500):
        item = Item(
            item_id=f"i{number}", title=f"name{number % 40} {number}", category=f"c{number % 9}"
        )
        items.put(item)
    index = ContentIndex(items, exact, retrieval)
    index.refresh()
    queries = [
        content.vector(Item(item_id="q", title=f"name{n}", category=f"c{n}")) for n in range(9)
    ]
    found = figures_of(index, queries)
    assert 0.9 <= found.recall_of_top_100 <= 1
    assert 0.5 <= found.recall_at_1000 <= 1
    assert 2 * content.DIM < found.bytes_per_item < 1_000
    assert found.build_s_per_million > 0
    assert figures_of(index, [np.zeros(content.DIM, np.float32)]).recall_at_1000 == 1
