"""A hung process is killed and started again; one that waits or works is not."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from infra.client.client import Client
from infra.local.plan import python_path
from infra.local.supervisor import Program, Supervisor, last_line
from infra.local.system import System, running
from infra.store import redis_client
from schemas.alphabet import Position
from schemas.events import EventIn
from schemas.keys import PLAIN
from schemas.state import fences
from tests.support.waits import until

SECONDS: Final = 3.0
"""The shortest patience that the settings allow."""
LOOP: Final = """
    import os, signal, sys
    from infra import heartbeat

    heartbeat.start()
    with heartbeat.watched_loop():
        heartbeat.beat()
        print("at work", flush=True)
        while sys.argv[1] == "turns":
            heartbeat.beat()
        while sys.argv[1] == "spins":
            pass
        signal.pause()
"""
EVENT_LOOP: Final = """
    import asyncio, signal, sys
    from infra import heartbeat

    async def main():
        task = asyncio.create_task(heartbeat.keep_beating())
        await asyncio.sleep(0.1)
        print("at work", flush=True)
        await asyncio.sleep(3600) if sys.argv[1] == "turns" else signal.pause()

    heartbeat.start()
    asyncio.run(main())
"""


def program(name: str, code: str, how: str) -> Program:
    return Program(name, [sys.executable, "-c", textwrap.dedent(code), how], beats=True)


class Watched:
    """A supervisor of these programs, and its lines."""

    def __init__(self, logs: Path, *programs: Program, **options: object) -> None:
        self.lines: list[str] = []
        environment = {**os.environ, "PYTHONPATH": python_path()}
        self.it = Supervisor(
            programs, logs, environment, self.lines.append, hang_seconds=SECONDS, **options  # type: ignore[arg-type]
        )  # fmt: skip

    def ticking(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        def step() -> bool:
            self.it.tick()
            return condition()

        until(step, seconds)

    def at_work(self) -> bool:
        return all(last_line(child.log) == "at work" for child in self.it.children.values())

    def restarts(self, name: str) -> int:
        return self.it.children[name].restarts


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(*programs: Program, **options: object) -> Watched:
        made.append(Watched(tmp_path, *programs, **options))
        return made[-1]

    yield make
    for watched in made:
        watched.it.hurry = True
        watched.it.stop()


@pytest.mark.timeout(180)
def test_a_hung_process_is_killed_and_one_that_waits_or_works_is_not(
    watch: Callable[..., Watched],
) -> None:
    watched = watch(
        program("spins", LOOP, "spins"),
        program("blocked", EVENT_LOOP, "blocked"),
        program("stopped", LOOP, "turns"),
        program("turns", EVENT_LOOP, "turns"),
        program("waits", LOOP, "waits"),
    )
    watched.ticking(watched.at_work)
    stopped = watched.it.children["stopped"]
    assert stopped.pid
    os.kill(stopped.pid, signal.SIGSTOP)
    hang = ("spins", "blocked", "stopped")
    watched.ticking(lambda: all(watched.restarts(name) for name in hang))
    watched.ticking(lambda: watched.restarts("blocked") > 1)  # as long again
    for name in hang:
        lines = [line for line in watched.lines if line.startswith(f"{name} ")]
        assert re.fullmatch(rf"{name} hangs, it gave no sign of life for [3-9] s: killed", lines[0])
        assert lines[1] == f"{name} restarted after a hang"
    assert watched.restarts("turns") == watched.restarts("waits") == 0
    assert watched.restarts("stopped") == 1, "its next life turns"


def test_a_supervisor_that_was_stopped_with_all_others_kills_none(
    watch: Callable[..., Watched],
) -> None:
    now = 0.0
    watched = watch(program("turns", LOOP, "turns"), clock=lambda: now)
    child = watched.it.children["turns"]
    watched.ticking(lambda: watched.at_work() and child.beat > 0)
    for _ in range(3):  # a night each
        now += 30_000.0
        before = child.beat
        watched.it.tick()
        watched.ticking(lambda at=before: child.beat > at)  # type: ignore[misc]
    assert watched.lines == []


def test_before_its_first_sign_of_life_a_process_has_time_to_import(
    watch: Callable[..., Watched],
) -> None:
    now = 0.0
    silent = Program("silent", [sys.executable, "-c", "import time; time.sleep(600)"], beats=True)
    watched = watch(silent, clock=lambda: now)
    looks = 0
    while not watched.lines:
        watched.it.tick()
        now, looks = now + 1.0, looks + 1
    assert looks > 120


@pytest.mark.check
@pytest.mark.timeout(240)
def test_a_hung_flow_of_a_whole_system_is_replaced_while_others_wait_for_redis(
    tmp_path: Path,
) -> None:
    with running(
        tmp_path, environment={"FRESHET_HANG_SECONDS": "4", "FRESHET_AUTH": "off"}
    ) as system:
        (people,) = system.kill("people", signal.SIGSTOP)
        until(lambda: system.restarts("people") == 1, 90)
        assert system.pids("people") != [people]
        assert "people hangs, it gave no sign of life for" in system.logs("up")
        folds(system, "ann")
        # Redis gives no sign of life and all flows wait: no other process counts as hung
        system.kill("redis", signal.SIGSTOP)
        before = system.restarts("lake-keeper")
        for n in (1, 2):
            until((tmp_path / "logs" / "lake-keeper.beat").exists, 90)  # it is past its imports
            system.kill("lake-keeper", signal.SIGSTOP)
            until(lambda n=n: system.restarts("lake-keeper") == before + n, 90)  # type: ignore[misc]
        system.kill("redis", signal.SIGCONT)
        folds(system, "bob")
        hung = set(re.findall(r"(\S+) hangs,", system.logs("up")))
        assert hung == {"people", "lake-keeper"}


async def click(url: str, who: str) -> Position:
    async with Client(url) as client:
        event = EventIn(user_id=who, item_id="alien", action="click")
        sent = await client.send_events([event])
    return Position.parse(sent.value.positions[0])


def folds(system: System, who: str) -> None:
    """Whether an action of `who` reaches Redis."""
    at = asyncio.run(click(system.url, who))
    key = PLAIN.fence("people", at.partition)
    with redis_client.connect(system.settings) as client:

        def there() -> bool:
            held = client.get(key)
            return held is not None and fences.decode(held).offset > at.offset

        until(there, 90)
