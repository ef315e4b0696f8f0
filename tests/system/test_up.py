"""`freshet up` starts a whole system, restarts dead processes, and leaves nothing behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.apps.inspect.scrape import scrape
from infra.local import home, services
from infra.local.plan import FRESHET, ROOT
from infra.local.system import System, SystemFailed, running
from schemas.flows import BY_NAME
from tests.support.waits import alive, until

FLOWS = list(BY_NAME)
NAMES = ["broker", "redis", "setup", *FLOWS, "lake-keeper"]


def get(url: str, path: str) -> int:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


class Up:
    """A `freshet up` as a user starts it."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.folder, self.log = folder, folder.with_suffix(".out")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.cli", "up", "--data-dir", str(folder), *options],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def await_ready(self) -> home.Up:
        def ready() -> bool:
            assert self.process.poll() is None, self.said
            state = home.read(self.folder)
            return state is not None and state.ready and state.pid == self.process.pid

        until(ready, 60)
        state = home.read(self.folder)
        assert state
        return state


Start = Callable[..., Up]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Up] = []

    def make(*options: str, **environment: str) -> Up:
        started.append(Up(tmp_path / "data", *options, **environment))
        return started[-1]

    yield make
    for up in started:
        up.process.kill()
        up.process.wait()


def test_everything_comes_up_and_says_where_it_is(system: System) -> None:
    state = system.state()
    assert [it.name for it in state.processes] == [*NAMES, "serving-0", "serving-1"]
    assert get(system.url, "/health/ready") == 200
    assert services.redis_answers(system.redis_url)
    until(lambda: "Ctrl-C stops it" in system.logs("up"))  # the line comes after up.json is written
    said = system.logs("up")
    places = (system.url, system.kafka_bootstrap, system.redis_url, str(system.directory))
    for where in (*places, f"{system.directory}/logs"):
        assert where in said
    assert "without a fork server" not in said
    assert all(Path(it.log).is_file() for it in state.processes)
    assert system.settings.data_dir == system.directory


def test_each_process_answers_prometheus_at_its_target(system: System) -> None:
    targets = json.loads((system.directory / home.TARGETS_FILE).read_text())
    ports = {it.name: it.metrics_port for it in system.state().processes if it.metrics_port}
    assert set(ports) == {*NAMES, "serving-0", "serving-1"} - {"broker", "redis", "setup"}
    assert len(set(ports.values())) == len(ports)
    assert {it["labels"]["process"]: it["targets"] for it in targets} == {
        name: [f"127.0.0.1:{port}"] for name, port in ports.items()
    }
    for port in ports.values():
        until(lambda port=port: bool(scrape("127.0.0.1", port)))  # type: ignore[misc]


def test_a_killed_process_is_started_again_in_one_line(system: System) -> None:
    before = system.restarts("people")
    (pid,) = system.kill("people")
    until(lambda: system.restarts("people") == before + 1)
    assert "people restarted after SIGKILL" in system.logs("up")
    until(lambda: system.pids("people") not in ([], [pid]))


def test_a_system_survives_a_killed_redis_and_broker(system: System) -> None:
    for name in ("redis", "broker"):
        system.kill(name)
        until(lambda name=name: system.restarts(name) > 0)  # type: ignore[misc]
    until(lambda: get(system.url, "/health/ready") == 200, 60)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.check)]
)
def test_a_signal_stops_everything_and_leaves_nothing_behind(start: Start, number: int) -> None:
    up = start("--workers", "1")
    state = up.await_ready()
    pids = [it.pid for it in state.processes if it.pid]
    assert len(pids) == len(NAMES)  # setup has ended, one worker serves
    began = time.monotonic()
    up.process.send_signal(number)
    assert up.process.wait(15) == 0
    assert time.monotonic() - began < 8, "a few seconds"
    assert not any(alive(pid) for pid in pids)
    files = {path.name for path in up.folder.iterdir()}
    assert files <= {
        home.MARKER_FILE,
        "broker",
        "redis",
        "logs",
        "pseudonym.key",
        "issuer.key",
        "token",
        "spool",
        "lake",
        "writes",
        "partitions",
    }
    assert up.said.endswith(" stopped\n")
    assert "did not stop" not in up.said


def test_a_killed_system_takes_all_processes_with_it_and_the_next_one_says_so(start: Start) -> None:
    up = start("--workers", "1")
    state = up.await_ready()
    up.process.kill()
    up.process.wait()
    until(lambda: not any(alive(it.pid) for it in state.processes if it.pid))
    assert home.read(up.folder) is None
    again = start("--workers", "1")
    assert again.await_ready().pid == again.process.pid
    assert (
        f"process {up.process.pid} ended without tidying up: its up.json is replaced" in again.said
    )


@pytest.mark.check
def test_a_second_ctrl_c_kills(start: Start) -> None:
    up = start("--workers", "1")
    state = up.await_ready()
    (worker,) = (it.pid for it in state.processes if it.name == "relay")
    assert worker
    os.kill(worker, signal.SIGSTOP)  # the process does not react to SIGTERM now
    up.process.send_signal(signal.SIGINT)
    until(lambda: not alive(next(it.pid for it in state.processes if it.name == "control") or 0))
    began = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    up.process.wait(10)
    assert time.monotonic() - began < 2.5, "less than the grace of one process"
    assert not any(alive(it.pid) for it in state.processes if it.pid)


def test_a_system_uses_a_kafka_and_a_redis_that_are_running(
    start: Start, broker: str, redis_url: str
) -> None:
    up = start("--workers", "1", KAFKA_BOOTSTRAP=broker, REDIS_URL=redis_url)
    state = up.await_ready()
    assert (state.kafka_bootstrap, state.redis_url) == (broker, redis_url)
    assert not {"broker", "redis"} & {it.name for it in state.processes}
    until(lambda: up.said.count("(yours)") == 2)  # the line comes once the record holds it


@pytest.mark.check
def test_what_cannot_come_up_is_a_sentence_and_exit_1(start: Start, redis_url: str) -> None:
    up = start(
        KAFKA_BOOTSTRAP="127.0.0.1:1", REDIS_URL=redis_url.replace("redis://", "redis://a:b@")
    )
    assert up.process.wait(120) == 1
    last = up.said.splitlines()[-1]
    assert last.startswith("freshet: setup does not start, it ended")
    assert not (up.folder / home.RECORD_FILE).exists()


@pytest.mark.check
def test_another_partition_count_is_refused_with_the_remedy(
    start: Start, broker: str, redis_url: str
) -> None:
    running_with = {"KAFKA_BOOTSTRAP": broker, "REDIS_URL": redis_url}
    first = start("--workers", "1", **running_with)
    first.await_ready()
    first.process.terminate()
    first.process.wait(15)
    second = start(FRESHET_PARTITIONS="7", **running_with)
    assert second.process.wait(60) == 1
    assert "topic events has 4 partitions, FRESHET_PARTITIONS says 7" in second.said


@pytest.mark.check
def test_json_lines_for_machines_while_flow_workers_change(start: Start, tmp_path: Path) -> None:
    """The token is in a file, whose value each process gets."""
    secret = tmp_path / "token"
    secret.write_text("secret-token-of-16\n")
    up = start("--workers", "1", "--flow-workers", "2", "--json", FRESHET_TOKEN_FILE=str(secret))
    state = up.await_ready()
    assert get(state.url, "/v1/status") == 401
    scale = [*FRESHET, "flows", "scale", "1", "--data-dir", state.data_dir]
    assert (
        subprocess.run(scale, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode
        == 0
    )
    now = home.read(Path(state.data_dir))
    assert now is not None
    people = [it for it in now.processes if it.name.startswith("people")]
    assert [(it.name, it.metrics_port > 0, bool(it.pid)) for it in people] == [
        ("people", True, True)
    ]
    up.process.terminate()
    assert up.process.wait(15) == 0
    lines = [json.loads(line) for line in up.said.splitlines()]
    assert [line["event"] for line in lines] == ["starting", "ready", "change", "change"]
    assert "1 workers share" in lines[2]["text"]
    assert lines[1]["url"] == state.url
    names = [it["name"] for it in lines[1]["processes"]]
    assert "people-0" in names
    assert "people-1" in names
    assert "secret-token-of-16" not in up.said


def test_running_says_why_it_does_not(tmp_path: Path) -> None:
    with (
        pytest.raises(SystemFailed, match="FRESHET_BATCH must be above 0"),
        running(tmp_path, environment={"FRESHET_BATCH": "0"}),
    ):
        pass
