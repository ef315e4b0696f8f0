"""`freshet rebuild` on a whole system: swapped without a gap, exact, taken back, put right in its place."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.verify.run import verify
from infra.lake.log import open_log
from infra.local import at_rest
from infra.local.plan import FRESHET
from infra.local.services import wait_until
from infra.local.system import System, running
from infra.settings import Settings
from infra.store import generation, redis_client
from schemas.keys import PLAIN, ROW
from schemas.state import fences
from tests.flows.faults import behind_published, produce, traffic
from tests.system.test_cli import freshet, read_json

pytestmark = [pytest.mark.on_cluster, pytest.mark.check, pytest.mark.timeout(180)]
GAP_SECONDS = 5.0


@dataclass
class Reads:
    """A client that reads all the while. `failed`: missing answers, and answers without the store."""

    asked: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def reading(system: System, person: str) -> Iterator[Reads]:
    seen, stop = Reads(), threading.Event()

    def ask() -> None:
        while not stop.wait(0.01):
            url = f"{system.url}/v1/recommendations?user_id={person}"
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    body = json.load(answer)
            except OSError as error:
                seen.failed.append(type(error).__name__)
                continue
            seen.asked += 1
            if body["fallback"] == "store_down":
                seen.failed.append("store_down")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@contextmanager
def acting(settings: Settings, seed: int) -> Iterator[list[int]]:
    """Sends a few hundred events a second; yields a list that holds their number in the end."""
    rnd, stop, sent = random.Random(seed), threading.Event(), [0]

    def act() -> None:
        while not stop.is_set():
            sent[0] += produce(settings, traffic(200, 300, rnd), rnd, lambda n: None)
            stop.wait(0.3)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join()


def caught_up(settings: Settings) -> None:
    with redis_client.connect(settings) as client:
        wait_until(lambda: not behind_published(settings, client), 30, "the flows do not catch up")


def exact(settings: Settings) -> None:
    """Asserts that all state equals the slow definitions."""
    caught_up(settings)
    report = verify(settings, open_log(settings))
    assert report.mismatches == []
    assert report.people_checked > 0


def generations(settings: Settings) -> set[int]:
    with redis_client.connect(settings) as client:
        found = (PLAIN.generation_of(name) for name in client.scan_iter(count=1000))
        return {number for number in found if number is not None}


def test_everything_is_rebuilt_beside_what_is_live_and_swapped_without_a_gap(
    system: System,
) -> None:
    settings = system.settings
    with acting(settings, 1), reading(system, "u1") as reads:
        wait_until(lambda: reads.asked > 50, 30, "no read is answered")
        first = read_json(system, "rebuild")
        caught_up_within(settings, GAP_SECONDS)
        kept = read_json(system, "rebuild", "--from", "beginning", "--keep")
    assert reads.failed == []
    assert (first["generation"], first["before"], first["kept"]) == (1, 0, False)
    assert first["events"] > 0
    assert (kept["generation"], kept["before"], kept["kept"]) == (2, 1, True)
    assert generations(settings) == {1, 2}
    exact(settings)
    with acting(settings, 2):
        back = read_json(system, "rebuild", "--back")
    assert (back["generation"], back["before"]) == (1, 2)
    exact(settings)
    assert read_json(system, "rebuild", "--drop")["dropped"].keys() == {"2"}
    assert generations(settings) == {1}
    assert (
        "nothing to swap back to"
        in freshet("rebuild", "--back", "--data-dir", system.directory, code=1).output
    )


def caught_up_within(settings: Settings, seconds: float) -> None:
    """Events go on coming: the fences have to move, and stay near the log's end."""
    began = time.monotonic()
    with redis_client.connect(settings) as client:
        live = generation.live(client, PLAIN)
        before = client.get(PLAIN.in_generation(live).fence("people", 0))
        wait_until(
            lambda: client.get(PLAIN.in_generation(live).fence("people", 0)) != before,
            30,
            "the flow stands still",
        )
    assert time.monotonic() - began < seconds


def test_a_partition_is_put_right_in_its_place(system: System) -> None:
    settings = system.settings
    rnd = random.Random(3)
    produce(settings, traffic(2_000, 200, rnd), rnd, lambda n: None)
    caught_up(settings)
    with redis_client.connect(settings) as client:
        live = generation.live(client, PLAIN)
        rows = sorted(
            client.scan_iter(match=PLAIN.in_generation(live).people_pattern(ROW, 1), count=1000)
        )
        broken, lost = rows[0], rows[1]
        client.setrange(broken, 8, b"\xff\xff")
        client.delete(lost)
        client.set(PLAIN.in_generation(live).row(1, "0" * 32), b"nobody")
        wrong = verify(settings, open_log(settings), partitions=[1], sums=False)
        assert len({it.key for it in wrong.mismatches}) >= 2
        with acting(settings, 4):
            report = read_json(system, "rebuild", "--partition", "1")
        assert report["written"] >= 2
        assert report["deleted"] == 1
    exact(settings)


def test_a_rebuild_that_was_killed_leaves_the_live_generation_and_the_next_one_sweeps(
    system: System,
) -> None:
    settings = system.settings
    with redis_client.connect(settings) as client:
        live = generation.live(client, PLAIN)
        # a rebuild that died while it filled
        client.hset(PLAIN.generations(), str(live + 7), "filling")
        client.set(PLAIN.in_generation(live + 7).row(0, "1" * 32), b"half")
        process = subprocess.Popen(
            [*FRESHET, "rebuild", "--json", "--data-dir", str(system.directory)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: client.exists(PLAIN.rebuilding()), 20, "the rebuild does not begin")
        process.kill()
        process.wait()
        assert generation.live(client, PLAIN) == live
        busy = freshet("rebuild", "--data-dir", system.directory, code=1).output
        assert "another rebuild runs" in busy
        client.delete(PLAIN.rebuilding())  # it expires by itself half a minute later
        report = read_json(system, "rebuild")
        assert report["before"] == live
        assert generations(settings) == {report["generation"]}
    exact(settings)


def test_a_full_store_is_refused_before_anything_is_written(system: System, tmp_path: Path) -> None:
    with redis_client.connect(system.settings) as client:
        live = generation.live(client, PLAIN)
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + 20_000)
        try:
            output = freshet("rebuild", "--data-dir", system.directory, code=1).output
        finally:
            client.config_set("maxmemory", 0)
        assert "maxmemory" in output
        assert "Traceback" not in output
        assert generation.live(client, PLAIN) == live


def test_state_of_another_version_is_made_again_before_the_system_runs(tmp_path: Path) -> None:
    rnd = random.Random(5)
    with running(tmp_path) as up:
        produce(up.settings, traffic(200, 300, rnd), rnd, lambda n: None)
        caught_up(up.settings)
    with at_rest.services(tmp_path, print) as settings, redis_client.connect(settings) as client:
        for partition in range(settings.partitions):
            name = PLAIN.fence("people", partition)
            fence = fences.decode(client.get(name) or b"")
            fence.version += 1
            client.set(name, fences.encode(fence))
        keys = PLAIN.tables()
        client.set(keys.base_chunks(b"1:1")[0], b"of another version")
        client.set(keys.base, b"1:1")
        busy = freshet("rebuild", "--data-dir", tmp_path, code=2).output
        assert "a system already runs" in busy
    nothing = freshet("rebuild", "--data-dir", tmp_path / "elsewhere", code=2).output
    assert "nothing runs" in nothing
    report = json.loads(freshet("rebuild", "--json", "--data-dir", tmp_path).stdout)
    assert (report["generation"], report["before"]) == (1, 0)
    with running(tmp_path) as up:
        exact(up.settings)
