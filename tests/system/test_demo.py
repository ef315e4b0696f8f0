"""The demo, whole, on a small made-up audience."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from infra import home
from infra.cli import demo_measure, demo_story, replay_log
from infra.cli.console import console
from infra.cli.demo_progress import Said
from infra.cli.demo_report import ARMS
from infra.cli.generated import generated
from infra.cli.replay_schedule import schedule
from infra.plan import python_path
from infra.supervise import System
from schemas.event import Action

pytestmark = pytest.mark.check
LIMIT = 1_500
SAMPLE = 80


def test_replay_in_order_exact_and_the_same_in_process(system: System) -> None:
    found = generated()
    planned = schedule(found.ratings, sample=SAMPLE, probes=40, limit=LIMIT)
    report = demo_measure.measure(system, found, planned, 500, Said(console()))

    assert report.events == len(planned.steps) == LIMIT // 5
    assert report.errors == 0, report.errors_by_kind
    assert report.targets == SAMPLE
    assert report.in_process_equals_live, report.differences
    assert report.events_per_s <= 510
    assert report.unknown_items == 0
    assert report.max_category_share_top10 <= 0.3
    assert 0 < report.coverage_at_10 < 1

    log = replay_log.read(system.settings)
    times: dict[str, list[int]] = defaultdict(list)
    ids: Counter[str] = Counter()
    for records in log.events:
        for _, _, event in records:
            assert isinstance(event, Action)
            times[event.person].append(event.occurred_at)
            ids[event.event_id] += 1
    assert all(theirs == sorted(theirs) for theirs in times.values())
    assert set(ids.values()) == {1}
    assert ids.total() == LIMIT

    story = asyncio.run(demo_story.tell(system.url, system.settings.token, found.ratings))
    assert story.clicked == story.before[-1].item_id
    assert story.clicked not in {it.item_id for it in story.after}
    assert story.new
    assert all(it.reason for it in story.after)


def test_the_command_starts_from_nothing_and_ends_with_0(tmp_path: Path) -> None:
    data = _movielens(tmp_path / "data")
    first, again = (_demo(tmp_path, data) for _ in range(2))
    for run in (first, again):
        assert run.returncode == 0, run.stdout + run.stderr
        assert f"MovieLens, from {data}" in run.stdout
        assert "One person" in run.stdout
    report = json.loads((tmp_path / "demo" / "report.json").read_bytes())
    assert sorted(report["hit_rate_at_10"]) == sorted(ARMS)
    assert report["in_process_equals_live"] is True
    assert report["errors"] == 0
    assert report["events"] == 80
    assert home.read(tmp_path / "demo" / "system") is None


def test_a_second_demo_in_one_folder_is_told_so(system: System, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "system").symlink_to(system.directory)
    run = _demo(tmp_path, _movielens(tmp_path / "data"))
    assert run.returncode == 2
    assert run.stderr.startswith("freshet: a demo is still up in")
    assert home.read(system.directory)


def _movielens(folder: Path) -> Path:
    """A made-up audience in MovieLens' layout."""
    found = generated()
    folder.mkdir()
    with (folder / "movies.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("movieId", "title", "genres"))
        rows.writerows((it.item_id, it.title, "|".join(it.genres)) for it in found.items)
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("userId", "movieId", "rating", "timestamp"))
        rows.writerows(
            (it.user_id, it.item_id, it.rating, it.at // 1000) for it in found.ratings[-400:]
        )
    return folder


def _demo(directory: Path, data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.cli", "demo", "--sample", "20"]
    command += ["--data", str(data), "--data-dir", str(directory / "demo")]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
