"""The demo on a small made-up audience, which is three times as large with ALL=1."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from flows.offline import history
from infra.apps.demo import measure
from infra.apps.demo import story as demo_story
from infra.apps.demo.report import ARMS
from infra.apps.demo.schedule import schedule
from infra.datasets.generated import generated
from infra.local import home
from infra.local.plan import python_path
from infra.local.system import System
from infra.terminal.progress import Reporter
from infra.terminal.text import console
from infra.version import RELEASE
from schemas.events import Action
from tests.support.demo_data import movielens_folder
from tests.support.whole import WHOLE

pytestmark = [pytest.mark.check, pytest.mark.timeout(300)]
SIZE = 3 if WHOLE else 1
LIMIT = 1_500 * SIZE
SAMPLE = 80 * SIZE
PEOPLE = 20 * SIZE
SECONDS = 4 * SIZE


def test_a_replay_is_in_order_exact_and_the_same_in_process(system: System) -> None:
    found = generated()
    planned = schedule(found.ratings, sample=SAMPLE, probes=40, limit=LIMIT)
    report = measure.measure(system, found, planned, 500, Reporter(console()))

    assert report.events == len(planned.steps) == LIMIT // 5
    assert report.errors == 0, report.errors_by_kind
    assert report.targets == SAMPLE
    assert report.in_process_equals_live, report.differences
    assert report.events_per_s <= 510
    assert report.unknown_items == 0
    assert report.max_category_share_top10 <= 0.3
    assert 0 < report.coverage_at_10 < 1
    assert report.release
    # a release that loses is kept, and what is built in serves under the version of the code
    assert bool(report.release.id) != bool(report.release.kept)
    assert report.versions["release"] == (report.release.id or RELEASE)
    assert report.release.ranker in ("released", "refused")

    log = history.read(system.settings)
    times: dict[str, list[int]] = defaultdict(list)
    ids: Counter[str] = Counter()
    for records in log.events:
        for _, _, event in records:
            assert isinstance(event, Action)  # a replay shows no slate to any person
            times[event.person].append(event.occurred_at)
            ids[event.event_id] += 1
    assert all(theirs == sorted(theirs) for theirs in times.values())
    assert set(ids.values()) == {1}
    assert ids.total() == LIMIT

    story = asyncio.run(demo_story.play(system.url, system.token, found.ratings))
    assert story.clicked == story.before[-1].item_id
    assert story.clicked not in {it.item_id for it in story.after}
    assert story.new
    assert all(it.reason for it in story.after)


def test_the_command_starts_from_nothing_and_exits_with_0(tmp_path: Path) -> None:
    data = movielens_folder(tmp_path / "data")
    first, again = (_demo(tmp_path, data, people) for people in (0, PEOPLE))
    for run in (first, again):
        assert run.returncode == 0, run.stdout + run.stderr
        assert f"MovieLens, from {data}" in run.stdout
        assert "One person" in run.stdout
    assert "Many people" not in first.stdout
    assert "What the API counted is what was sent" in again.stdout
    report = json.loads((tmp_path / "demo" / "report.json").read_bytes())
    assert sorted(report["hit_rate_at_10"]) == sorted(ARMS)
    assert report["in_process_equals_live"] is True
    assert report["errors"] == 0, report["errors_by_kind"]
    assert report["events"] == 80
    # too few choices to learn from: the demo reports that and goes on without a release
    assert (report["release"]["id"], report["release"]["ranker"]) == ("", "none")
    assert "There is no release" in again.stdout
    assert home.read(tmp_path / "demo" / "system") is None
    _check_experiment(report)


def _check_experiment(report: dict[str, Any]) -> None:
    """Every slot that was answered and every click that was sent is counted, once, where it belongs."""
    experiment, people = report["experiment"], report["population"]
    assert experiment["counts_match"] is True
    assert (experiment["id"], experiment["version"]) == ("home-ranker", 1)
    arms = {arm["variant"]: arm for arm in experiment["variants"]}
    assert set(arms) == set(report["ctr"]) == {"popularity", "personal"}
    assert sum(arm["served"] for arm in arms.values()) == 10 * people["slates"] > 0
    assert sum(arm["clicked"] for arm in arms.values()) > 0
    for name, arm in arms.items():
        assert 0 < arm["units"] <= PEOPLE
        assert arm["ctr"] == pytest.approx(arm["clicked"] / arm["served"])
        assert arm["clicked"] <= arm["displayed"] <= arm["served"]
        assert arm["converted"] <= arm["clicked"]
        assert 0 < people["true_ctr"][name] == arm["true_ctr"] < 0.3
    assert sum(arm["units"] for arm in arms.values()) <= PEOPLE
    assert people["events"] == sum(
        arm[state] for arm in arms.values() for state in ("displayed", "clicked", "converted")
    )
    assert 0 < report["coverage"] <= 1
    assert 0 <= report["explored_share"] <= 0.1


def test_a_second_demo_in_one_folder_is_refused(system: System, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "system").symlink_to(system.directory)
    run = _demo(tmp_path, movielens_folder(tmp_path / "data"))
    assert run.returncode == 2
    assert run.stderr.startswith("freshet: a demo still runs in")
    assert home.read(system.directory)


def _demo(directory: Path, data: Path, people: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.cli", "demo", "--sample", "20"]
    command += ["--population", str(people), "--seconds", str(SECONDS)]
    command += ["--data", str(data), "--data-dir", str(directory / "demo")]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
