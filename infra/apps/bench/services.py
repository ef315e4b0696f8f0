"""A broker and a Redis of the bench, a log in the broker, and programs of the plan beside them."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from infra.apps.bench import audience
from infra.apps.bench.load import NotMeasured
from infra.local import home
from infra.local.plan import Plan, child_environment, plan, programs
from infra.local.supervisor import Supervisor, last_line
from infra.settings import FILES, VARIABLES, Settings
from infra.signals import die_with_parent
from infra.variables import PREFIX

SERVICES: Final = ("broker", "redis", "setup")
_TIMEOUT_SECONDS: Final = 180.0
_POLL_SECONDS: Final = 0.004
Announce = Callable[[str], None]


class Logged(NamedTuple):
    """A log in the broker of `planned`. `services` supervises broker and Redis."""

    planned: Plan
    services: Supervisor
    log: audience.WrittenLog

    @property
    def settings(self) -> Settings:
        return self.planned.settings

    @property
    def end_offsets(self) -> list[int]:
        """The end offset of each partition."""
        return [self.log.end_offsets.get(p, 0) for p in range(self.settings.partitions)]


@contextmanager
def logged(folder: Path, count: int, announce: Announce) -> Iterator[Logged]:
    """Broker and Redis in `folder`, with `count` events in the log. Errors: `NotMeasured`."""
    with home.claimed(folder) as directory:
        planned = plan(directory, {})
        with up(planned, SERVICES) as services:
            wait(services, lambda: services.was_ready, "broker and Redis are not ready")
            announce(f"replay: writing {count:,} events")
            yield Logged(planned, services, audience.write(planned.settings, count))


@contextmanager
def up(planned: Plan, names: Sequence[str]) -> Iterator[Supervisor]:
    """Runs only these programs of the plan; stops them at the end."""
    chosen = [
        dataclasses.replace(it, depends_on=[need for need in it.depends_on if need in names])
        for it in programs(planned)
        if it.name in names
    ]
    chosen.sort(key=lambda it: names.index(it.name))
    logs = planned.settings.data_dir / "logs"
    supervisor = Supervisor(chosen, logs, child_environment(planned.settings))
    try:
        supervisor.tick()
        yield supervisor
    finally:
        supervisor.stop()


def wait(
    supervisors: Supervisor | Sequence[Supervisor], condition: Callable[[], Any], what: str
) -> Any:
    """Polls until `condition` is true, and gives its value. Errors: `NotMeasured`."""
    many = [supervisors] if isinstance(supervisors, Supervisor) else supervisors
    until = time.monotonic() + _TIMEOUT_SECONDS
    while not (value := condition()):
        for supervisor in many:
            supervisor.tick()
            for child in supervisor.children.values():
                if child.failures or supervisor.failure:
                    why = child.last_exit or last_line(child.log) or supervisor.failure
                    raise NotMeasured(f"{what}: {child.program.name} ended with {why}")
        if time.monotonic() > until:
            raise NotMeasured(f"{what} within {_TIMEOUT_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
    return value


@contextmanager
def busy_loops(count: int) -> Iterator[list[int]]:
    """`count` processes that use all the CPU they get, at normal priority as others do; their ids."""
    command = [sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(command, preexec_fn=die_with_parent()) for _ in range(count)]
    try:
        yield [it.pid for it in loops]
    finally:
        for it in loops:
            it.kill()
            it.wait()


def clean_environment() -> None:
    """Removes every setting from the environment: the bench's events must never reach a user's own services,
    and its figures are those of the defaults."""
    for name in list(os.environ):
        if name in VARIABLES.values() or name in FILES.values() or name.startswith(PREFIX):
            del os.environ[name]
