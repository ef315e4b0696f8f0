"""Redis that goes and comes back, also without its last writes: the flows' processes outlive it."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import redis

from flows.kit.commit import Fenced, WritesLost, commit_all
from flows.kit.run import run_with_retries
from infra.local import services
from infra.settings import Settings
from infra.signals import die_with_parent
from infra.store import redis_client
from schemas.flows import BY_NAME
from schemas.keys import PLAIN
from schemas.state.fences import Fence
from schemas.state.write import Write
from tests.flows.faults import Flow, behind, produce, traffic, wait, wrong
from tests.flows.slates import with_slates
from tests.support.transactions import after_watch

EVENTS_SENT = 4_000


class Server:
    """A Redis of a test's own, which keeps its file."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.port = directory, services.free_port()
        directory.mkdir()
        self.url = f"redis://{services.HOST}:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            services.redis_command(self.port, self._directory),
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent(),
        )
        services.wait_until(lambda: services.redis_answers(self.url), 20, "no Redis answers")

    def kill(self, forget: int = 0) -> None:
        """Kills Redis and cuts `forget` bytes from the end of its file."""
        self.process.kill()
        self.process.wait()
        if forget:
            (file,) = (self._directory / "appendonlydir").glob("*.incr.aof")
            os.truncate(file, max(0, file.stat().st_size - forget))


@pytest.mark.check
@pytest.mark.timeout(180)
def test_the_flows_outlive_their_redis(settings: Settings, tmp_path: Path) -> None:
    """Killed four times under traffic, twice with half a megabyte of what it had written gone."""
    server = Server(tmp_path / "redis")
    mine = msgspec.structs.replace(
        settings, redis_url=server.url, rollup_seconds=0.2, base_seconds=0.5, lake_seconds=0.3
    )
    flows = [Flow(mine, name, tmp_path / f"{name}.log") for name in BY_NAME]
    rnd = random.Random(5)
    made = with_slates(traffic(EVENTS_SENT, 300, rnd), rnd)
    eighth = len(made) // 8
    forgets = {eighth: 0, 3 * eighth: 500_000, 5 * eighth: 0, 7 * eighth: 500_000}

    def meanwhile(n: int) -> None:
        if n in forgets:
            server.kill(forgets[n])
            server.start()

    try:
        produce(mine, traffic(200, 50, rnd), rnd, lambda n: None)
        with redis_client.connect(mine) as client:
            wait(lambda: behind(mine, client), lambda: None)
            produce(mine, made, rnd, meanwhile)
            wait(lambda: behind(mine, client), lambda: None)
        assert [flow.process.poll() for flow in flows] == [None] * len(flows)
        found = wrong(mine)
        assert found == dict.fromkeys(found, 0)
    finally:
        for flow in flows:
            flow.kill()
        server.kill()


def test_a_redis_that_ends_between_watch_and_exec_applies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection that watched is gone: what follows must not go to another one, which watches nothing."""
    server = Server(tmp_path / "redis")
    writes = [Write("people", p, 0, Fence("t", 4, 5, 0, 1), PLAIN) for p in range(4)]

    def restart() -> None:
        server.kill()
        server.start()

    try:
        with redis_client.connect(Settings(redis_url=server.url)) as client:
            after_watch(monkeypatch, restart)
            with pytest.raises(redis.ConnectionError) as lost:
                commit_all(client, writes)
            assert redis_client.is_away(lost.value)
            assert client.dbsize() == 0
            assert commit_all(client, writes) == {}
    finally:
        server.kill()


def lost_under_watch() -> redis.WatchError:
    """As redis-py reports that a connection was lost in the middle of a transaction."""
    error = redis.WatchError("A ConnectionError occurred while watching one or more keys")
    error.__context__ = redis.ConnectionError("hung up")
    return error


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError(),
        redis.TimeoutError(),
        redis.BusyLoadingError(),
        redis.exceptions.ClusterDownError("CLUSTERDOWN"),
        lost_under_watch(),
        WritesLost("lost"),
    ],
    ids=lambda it: type(it).__name__,
)
def test_a_flow_goes_on_after_what_redis_recovers_from(
    settings: Settings, error: Exception
) -> None:
    asked, steps = threading.Event(), 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps < 3:
            raise error
        asked.set()

    run_with_retries(settings, asked, step)
    assert steps == 3


@pytest.mark.parametrize(
    "error",
    [
        Fenced("moved"),
        redis.AuthenticationError(),
        redis.WatchError(),
        redis.ResponseError(),
        OSError(),
    ],
    ids=lambda it: type(it).__name__,
)
def test_a_flow_stops_with_what_no_retry_heals(settings: Settings, error: Exception) -> None:
    with pytest.raises(type(error)):
        run_with_retries(settings, threading.Event(), _raising(error))


def test_a_flow_does_not_begin_without_redis(settings: Settings) -> None:
    nowhere = msgspec.structs.replace(settings, redis_url="redis://127.0.0.1:1/0")
    with pytest.raises(redis.ConnectionError):
        run_with_retries(nowhere, threading.Event(), _raising(AssertionError()))


def test_a_flow_that_waits_for_redis_stops_on_request(tmp_path: Path) -> None:
    server, asked = Server(tmp_path / "redis"), threading.Event()

    def step() -> None:
        server.kill()
        threading.Timer(0.3, asked.set).start()
        raise redis.ConnectionError

    run_with_retries(Settings(redis_url=server.url), asked, step)


def _raising(error: Exception) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step
