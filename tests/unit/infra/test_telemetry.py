"""Every counted metric is in the table, and a scrape shows every metric of the table."""

from __future__ import annotations

import logging
import math
import re
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from flows.kit.commit import Fenced, Torn
from flows.kit.metrics import FlowMetrics
from infra.local import services
from infra.log_reader import Batch
from infra.metrics import METRICS, TABLE, ProcessMetrics, observe_all
from infra.settings import Settings
from schemas.dead_letters import DeadLetter
from schemas.events import Assigned
from serving.metrics import Metrics

ROOT: Final = Path(__file__).resolve().parents[3]
NAME: Final = re.compile(r"[\"'](freshet_[a-z_]+)[\"']")


def samples(text: bytes | str) -> dict[tuple[str, ...], float]:
    """(name, label values in the order of their names) -> value."""
    decoded = text.decode() if isinstance(text, bytes) else text
    return {
        (it.name, *(value for _, value in sorted(it.labels.items()))): it.value
        for family in text_string_to_metric_families(decoded)
        for it in family.samples
    }


def decision(**more: Any) -> Any:
    """A decision with the fields that are counted."""
    shown = [SimpleNamespace(explore=rank == 2) for rank in range(4)]
    fields = {"items": shown, "sources": {"covisit": 30, "popular": 12}, "kept": 35}
    return SimpleNamespace(**{**fields, "removed": {"seen": 6, "hidden": 1}, **more})


def test_names_follow_prometheus_and_each_is_declared_once() -> None:
    assert len(METRICS) == len(TABLE)
    for it in TABLE:
        assert re.fullmatch(r"freshet(_[a-z]+)+", it.name)
        assert it.name.endswith("_total") == (it.kind == "counter"), it.name
        assert bool(it.buckets) == (it.kind == "histogram"), it.name
        assert list(it.buckets) == sorted(set(it.buckets))
        assert it.help[0].isupper()
        assert it.help.endswith(".")


def test_every_name_that_the_code_says_is_in_the_table() -> None:
    said = {
        re.sub("_(bucket|sum|count)$", "", name)
        for package in ("serving", "flows", "infra")
        for path in (ROOT / package).rglob("*.py")
        for name in NAME.findall(path.read_text())
    }
    assert len(said) > 20
    assert said <= METRICS.keys(), said - METRICS.keys()


@pytest.mark.parametrize("package", ["serving", "flows"])
def test_a_process_exports_its_own_metrics_and_no_others(package: Any) -> None:
    telemetry = ProcessMetrics(package)
    for it in TABLE:
        if it.exporter != package:
            with pytest.raises(KeyError):
                telemetry.series(it.name, *it.labels)
            continue
        one = telemetry.series(it.name, *it.labels)
        one.observe(1) if it.kind == "histogram" else one.inc()
    exported = samples(telemetry.render())
    for it in TABLE:
        name = f"{it.name}_count" if it.kind == "histogram" else it.name
        assert ((name, *sorted(it.labels)) in exported) == (it.exporter == package)
    assert exported[("process_resident_memory_bytes",)] > 1_000_000


def test_a_gauge_that_was_never_set_is_nan() -> None:
    """A 0 would read as a verification in 1970."""
    telemetry, name = ProcessMetrics("flows"), "freshet_verify_timestamp_seconds"
    assert math.isnan(samples(telemetry.render())[(name,)])
    telemetry.set(name, 5.0)
    assert samples(telemetry.render())[(name,)] == 5.0


def test_an_undeclared_name_or_label_is_an_error() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.add("freshet_events_acepted_total")
    with pytest.raises(KeyError):
        metrics.set("freshet_spool", 1)
    for labels in ({}, {"why": "x"}, {"code": "x", "why": "y"}):
        with pytest.raises(ValueError, match="freshet_events_rejected_total has the labels code"):
            metrics.add("freshet_events_rejected_total", **labels)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has the labels none"):
        metrics.add("freshet_events_accepted_total", code="x")


def test_a_series_is_its_labels_and_each_counts_for_itself() -> None:
    metrics = Metrics()
    for code, n in (("too_large", 2), ("not_json", 1), ("too_large", 1)):
        metrics.add("freshet_events_rejected_total", n, code=code)
    exported = samples(metrics.render())
    assert exported[("freshet_events_rejected_total", "too_large")] == 3
    assert exported[("freshet_events_rejected_total", "not_json")] == 1


def test_a_total_that_is_kept_elsewhere_never_falls() -> None:
    metrics = Metrics()
    for total in (3, 3, 7, 5):
        metrics.set("freshet_slates_lost_total", total)
    assert samples(metrics.render())[("freshet_slates_lost_total",)] == 7


def test_of_a_release_only_the_one_that_serves_is_exported() -> None:
    telemetry = ProcessMetrics("serving")
    for release in ("r1", "r2"):
        telemetry.only("freshet_release_info", release)
    exported = samples(telemetry.render())
    assert [key for key in exported if key[0] == "freshet_release_info"] == [
        ("freshet_release_info", "r2")
    ]


def test_an_answer_counts_its_stages_candidates_rules_and_experiments() -> None:
    metrics = Metrics()
    spent = {"read": 2.0, "score": 6.0}
    tested = (Assigned("home-ranker", 3, "b"),)
    metrics.count_answer("/v1/recommendations", spent, decision(), "home", None, tested)
    metrics.count_answer("/v1/recommendations", spent, decision(removed={}), "home", "store_down")
    metrics.count_answer(
        "/v1/popular", {"score": 1.0}, decision(items=[]), "popular", "stale_vector"
    )
    exported = samples(metrics.render())
    assert exported[("freshet_stage_seconds_sum", "score")] == pytest.approx(0.013)
    assert exported[("freshet_stage_seconds_bucket", "0.005", "read")] == 2
    assert exported[("freshet_read_seconds_sum", "/v1/recommendations")] == pytest.approx(0.016)
    assert exported[("freshet_read_seconds_count", "/v1/popular")] == 1
    # labels stand by their names: fallback, placement
    assert exported[("freshet_answers_total", "none", "home")] == 1
    assert exported[("freshet_answers_total", "store_down", "home")] == 1
    assert exported[("freshet_candidates_total", "covisit")] == 90
    assert exported[("freshet_rule_removed_total", "seen")] == 12
    assert exported[("freshet_rule_kept_total",)] == 105
    assert exported[("freshet_shown_total", "home")] == 8
    assert exported[("freshet_explored_total", "home")] == 2
    assert exported[("freshet_assignments_total", "home-ranker", "b")] == 1
    assert exported[("freshet_store_down_total",)] == 1
    assert exported[("freshet_stale_vector_total",)] == 1


def test_what_is_counted_while_a_thread_scrapes_is_exact() -> None:
    metrics, stop = Metrics(), threading.Event()
    seen: list[float] = []

    def scrape() -> None:
        while not stop.is_set():
            exported = samples(metrics.render())
            seen.append(exported.get(("freshet_answers_total", "none", "home"), 0))

    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    counters = [threading.Thread(target=count, args=(metrics,)) for _ in range(2)]
    for thread in (*scrapers, *counters):
        thread.start()
    for thread in counters:
        thread.join()
    stop.set()
    for thread in scrapers:
        thread.join()
    exported = samples(metrics.render())
    assert exported[("freshet_answers_total", "none", "home")] == 1000
    assert exported[("freshet_requests_total", "/v1/x", "200")] == 1000
    assert exported[("freshet_request_bytes_total",)] == 7000
    assert exported[("freshet_events_accepted_total",)] == 3000
    assert exported[("freshet_write_seconds_count",)] == 1000
    assert exported[("freshet_read_seconds_count", "recommendations")] == 1000
    assert exported[("freshet_read_seconds_sum", "recommendations")] == pytest.approx(8.0)
    assert all(0 <= n <= 1000 for n in seen)


def count(metrics: Metrics) -> None:
    for _ in range(500):
        metrics.count_request("/v1/x", 200, 7)
        metrics.count_events(3, 0, 0, 0, 0.001)
        metrics.count_answer("recommendations", {"score": 8.0}, decision(), "home", None)


@given(st.lists(st.floats(0, 20_000), min_size=1, max_size=50))
def test_times_are_counted_as_the_library_counts_them(spent_ms: list[float]) -> None:
    metrics, by_library = Metrics(), ProcessMetrics("serving")
    for ms in spent_ms:
        metrics.count_answer("popular", {"score": ms}, decision(), "popular", None)
        by_library.series("freshet_stage_seconds", "score").observe(ms / 1000)
    name = "freshet_stage_seconds"
    counted = {key: n for key, n in samples(metrics.render()).items() if key[0].startswith(name)}
    assert counted == pytest.approx(
        {key: n for key, n in samples(by_library.render()).items() if key[0].startswith(name)}
    )


def test_a_port_of_its_own_answers_what_hooks_set_and_closes(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, metrics_port=services.free_port())
    metrics = Metrics()
    metrics.process_metrics.before(lambda: metrics.set("freshet_items", 42))
    with metrics.exposed(settings):
        exported = samples(urllib.request.urlopen(at(settings), timeout=10).read())
        assert exported[("freshet_items",)] == 42
    assert not services.port_answers(settings.metrics_port)


def test_a_port_in_use_is_a_warning_and_no_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path, metrics_port=services.free_port())
    with Metrics().exposed(settings), caplog.at_level(logging.WARNING), Metrics().exposed(settings):
        pass
    assert caplog.messages == [
        f"no metrics on 127.0.0.1 port {settings.metrics_port}: Address already in use"
    ]


def at(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.metrics_port}/metrics"


def test_a_flow_counts_its_batches_letters_and_its_lag(tmp_path: Path) -> None:
    metrics = FlowMetrics(Settings(data_dir=tmp_path), "people")
    batch = Batch(0, 10, 13, [10, 11, 12], [5_000, 4_000, 6_000], [b"", b"", b""])
    metrics.committed([(batch, {"duplicates": 2})], 0.004)
    metrics.dead_letters_sent(
        letters("not_json", "bad_placement:weights.x:unknown", "bad_placement:y:no")
    )
    metrics.position(3, 13, 40)
    metrics.position(4, 13, 12)  # the last known end offset may be older than the fence
    exported = samples(metrics.process.render())
    assert exported[("freshet_flow_records_total", "people")] == 3
    assert exported[("freshet_flow_batch_records_sum", "people")] == 3
    assert exported[("freshet_flow_commit_seconds_sum", "people")] == 0.004
    assert exported[("freshet_flow_fresh_seconds_sum", "people")] > 1e9  # of 1970
    assert exported[("freshet_fold_counts_total", "people", "duplicates")] == 2
    assert exported[("freshet_flow_dead_letters_total", "people", "not_json")] == 1
    assert exported[("freshet_flow_dead_letters_total", "people", "bad_placement")] == 2
    assert exported[("freshet_flow_lag", "people", "3")] == 27
    assert exported[("freshet_flow_lag", "people", "4")] == 0


@pytest.mark.parametrize("name", [it.name for it in TABLE if it.kind == "histogram"])
def test_many_observations_at_once_are_as_many_one_by_one(name: str) -> None:
    bounds = METRICS[name].buckets
    values = [0.0, *bounds, *(bound * 1.01 for bound in bounds), 1e9]
    exporter, labels = METRICS[name].exporter, METRICS[name].labels
    one_by_one, at_once = ProcessMetrics(exporter), ProcessMetrics(exporter)
    for value in values:
        one_by_one.series(name, *labels).observe(value)
    observe_all(at_once.series(name, *labels), values)
    wanted, found = samples(one_by_one.render()), samples(at_once.render())
    mine = [key for key in wanted if key[0].startswith(name)]
    assert {key: found[key] for key in mine} == pytest.approx({key: wanted[key] for key in mine})
    assert found[(f"{name}_count", *labels)] == len(values)


def test_rounds_are_counted_once_whoever_counts_them(tmp_path: Path) -> None:
    """The flow's thread counts after some rounds, a scrape's thread what is left."""
    metrics = FlowMetrics(Settings(data_dir=tmp_path), "people")
    batch = Batch(0, 10, 12, [10, 11], [5_000, 4_000], [b"", b""])
    with ThreadPoolExecutor(1) as scraper:
        for n in range(1000):
            metrics.committed([(batch, {"duplicates": 2}), (batch, {})], 0.004)
            if n % 50 == 0:
                scraper.submit(metrics.process.render)
    exported = samples(metrics.process.render())
    assert exported[("freshet_flow_records_total", "people")] == 4000
    assert exported[("freshet_flow_batch_records_count", "people")] == 2000
    assert exported[("freshet_flow_commit_seconds_count", "people")] == 1000
    assert exported[("freshet_fold_counts_total", "people", "duplicates")] == 2000


def letters(*reasons: str) -> list[DeadLetter]:
    return [
        DeadLetter(topic="t", partition=0, offset=n, reason=why, value=None, record_at=0)
        for n, why in enumerate(reasons)
    ]


def test_the_exit_of_a_flow_is_counted_by_the_next_process(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    for error in (Fenced, Torn, Fenced):
        with (
            pytest.raises(error),
            FlowMetrics(settings, "people", "0").counting_failures(fenced=Fenced, torn=Torn),
        ):
            raise error("it ends")
    exported = samples(FlowMetrics(settings, "people", "0").process.render())
    assert exported[("freshet_flow_fenced_total", "people")] == 2
    assert exported[("freshet_flow_torn_total", "people")] == 1
    other = samples(FlowMetrics(settings, "people", "1").process.render())
    assert other[("freshet_flow_fenced_total", "people")] == 0, "it rises from there"


def test_an_exit_that_cannot_be_recorded_keeps_its_error(tmp_path: Path) -> None:
    (tmp_path / "ends").write_text("not a folder")
    with (
        pytest.raises(Fenced),
        FlowMetrics(Settings(data_dir=tmp_path), "x").counting_failures(fenced=Fenced),
    ):
        raise Fenced("it ends")


def test_the_rollup_and_the_relay_have_names_for_what_they_do(tmp_path: Path) -> None:
    metrics = FlowMetrics(msgspec.structs.replace(Settings(), data_dir=tmp_path), "rollup")
    metrics.published(0.5)
    metrics.tables({0: 7}, {"arms": 12})
    metrics.ignored("not_finite", 2)
    metrics.readouts(5, 1)
    metrics.readouts(9, 1)
    metrics.relayed(4)
    exported = samples(metrics.process.render())
    assert exported[("freshet_rollup_publish_seconds_sum",)] == 0.5
    assert exported[("freshet_rollup_positions_lag", "0")] == 7
    assert exported[("freshet_rollup_rows", "arms")] == 12
    assert exported[("freshet_rollup_ignored_total", "not_finite")] == 2
    assert exported[("freshet_readouts_total", "sent")] == 9
    assert exported[("freshet_readouts_total", "failed")] == 1
    assert exported[("freshet_relay_sent_total",)] == 4
