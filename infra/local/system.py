"""`freshet up`: runs every process of Freshet on one machine.

`up` is the command's body; `running` gives tests, demo and bench a whole system of their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from infra import tokens
from infra.local import home, services
from infra.local.forkserver import ForkServer
from infra.local.plan import (
    FRESHET,
    PRELOAD,
    PRELOAD_PEOPLE,
    Plan,
    child_environment,
    own_modules,
    people_ports,
    people_processes,
    plan,
    programs,
    scrape_host,
    with_flow_workers,
)
from infra.local.supervisor import Child, Program, Supervisor, last_line
from infra.local.workers import Workers
from infra.settings import VARIABLES, Settings, from_environment, to_environment
from infra.signals import die_with_parent
from schemas.errors import FreshetError

__all__ = ["Plan", "Program", "Supervisor", "System", "plan", "programs", "running", "up"]


def up(plan: Plan, report: Callable[[str], None], on_ready: Callable[[home.Up], None]) -> str:
    """Runs `plan` in its folder, which the caller has claimed, until SIGINT or SIGTERM.

    A second signal kills the processes that have not stopped yet. Gives "", or the sentence why a program
    cannot run. Errors: `services.NoService`.
    """
    directory = plan.settings.data_dir
    environment, logs = child_environment(plan.settings), directory / "logs"
    launcher = ForkServer(PRELOAD, environment, logs / "forkserver.log")
    supervisor = Supervisor(
        programs(plan), logs, environment, report, launcher, **_bounds(plan.settings)
    )
    started_at = int(time.time() * 1000)
    stop, workers = _on_signals(supervisor), Workers(directory)
    announced, keeper = False, tokens.Keeper(plan.settings, report)

    def changed() -> None:
        nonlocal announced
        state = _state(plan, supervisor, started_at)
        try:
            home.write(directory, state)
            if supervisor.was_ready and not announced:
                home.write_targets(directory, plan.metrics_ports, plan.metrics_host)
        except OSError as error:
            report(f"{home.RECORD_FILE} cannot be written: {error.strerror}")
        if supervisor.was_ready and not announced:
            announced = True
            if launcher.failure:
                report(f"processes start slowly, without a fork server: {launcher.failure}")
            on_ready(state)

    def before_tick() -> None:
        nonlocal plan
        keeper.tick()
        count = min(workers.requested, plan.settings.partitions)
        if count and count != plan.flow_workers and supervisor.was_ready:
            report(
                f"{count} workers share the partitions of events, instead of {plan.flow_workers}"
            )
            plan = with_flow_workers(plan, count)
            supervisor.change(programs(plan), stop)
            home.write_targets(directory, plan.metrics_ports, plan.metrics_host)
            workers.publish(count)
            changed()

    try:
        workers.started(plan.flow_workers)
        supervisor.run(stop, changed, before_tick)
    finally:
        supervisor.stop()
        launcher.close()
        home.remove(directory)
        workers.ended()
    return supervisor.failure


def share_people(settings: Settings, count: int, report: Callable[[str], None]) -> str:
    """Runs `count` processes of `people`, each with its share of the partitions, until SIGINT or SIGTERM.
    `Workers.request` changes the number meanwhile. Gives "", or the sentence why a process cannot run.
    Errors: `settings.BadSetting`."""
    directory = settings.data_dir
    environment, logs = child_environment(settings), directory / "logs"
    listed = _sharing(settings, count)
    logs.mkdir(parents=True, exist_ok=True)
    launcher = ForkServer(PRELOAD_PEOPLE, environment, logs / "forkserver.log")
    supervisor = Supervisor(listed, logs, environment, report, launcher, **_bounds(settings))
    stop, workers = _on_signals(supervisor), Workers(directory)

    def rescale() -> None:
        nonlocal count
        requested = min(workers.requested, settings.partitions)
        if requested and requested != count:
            report(f"{requested} workers instead of {count}")
            before, count = count, requested
            _publish_ports(settings, count, report, ours=before)
            supervisor.change(_sharing(settings, count), stop)
            workers.publish(count)

    try:
        _publish_ports(settings, count, report)
        workers.started(count)
        supervisor.run(stop, before_tick=rescale)
    finally:
        supervisor.stop()
        launcher.close()
        workers.ended()
        if settings.metrics_port:
            home.remove_targets(directory)
    return supervisor.failure


def _bounds(settings: Settings) -> dict[str, Any]:
    """Of a `Supervisor`."""
    return {"hang_seconds": settings.hang_seconds, "log_bytes": settings.log_bytes}


def _sharing(settings: Settings, count: int) -> list[Program]:
    """Errors: `settings.BadSetting`."""
    ports, variable = people_ports(settings, count), VARIABLES["metrics_port"]
    return [
        Program(name, command, beats=True, environment={variable: str(ports.get(name, 0))})
        for name, command in people_processes(settings, count)
    ]


def _publish_ports(
    settings: Settings, count: int, report: Callable[[str], None], ours: int = 0
) -> None:
    """Reports the metrics address of each worker, and writes it for a Prometheus. `ours`: the number of ports
    that our own workers use already."""
    ports, host = people_ports(settings, count), scrape_host(settings)
    if not ports:
        return
    report("metrics: " + ", ".join(f"{name} {host}:{port}" for name, port in ports.items()))
    for name, port in list(ports.items())[ours:]:
        if services.in_use(port, settings.metrics_host or services.HOST):
            report(f"port {port} is in use: {name} exports no metrics")
    try:
        home.write_targets(settings.data_dir, ports, host)
    except OSError as error:
        report(f"{home.TARGETS_FILE} cannot be written: {error.strerror}")


class SystemFailed(FreshetError):
    """A started system does not become ready, or has ended; the text has the end of its log."""


@dataclass
class System:
    """A handle on the `freshet up` that runs a whole system in `directory`."""

    directory: Path
    process: subprocess.Popen[bytes]
    settings: Settings
    url: str

    @property
    def token(self) -> str:
        """The token to send with requests; "" where nobody asks for one."""
        return tokens.held(self.settings)

    @property
    def kafka_bootstrap(self) -> str:
        return self.settings.kafka_bootstrap

    @property
    def redis_url(self) -> str:
        return self.settings.redis_url

    def state(self) -> home.Up:
        """The present content of `up.json`. Errors: `SystemFailed` where the system has ended."""
        up = home.read(self.directory)
        if up is None:
            last = last_line(self.directory / "logs" / "up.log")
            raise SystemFailed(f"the system has gone: {last}")
        return up

    def pids(self, name: str) -> list[int]:
        """The pids of the processes `name`, `name`-0, `name`-1 … that run now."""
        return [
            process.pid
            for process in self.state().processes
            if process.pid and (process.name == name or process.name.rpartition("-")[0] == name)
        ]

    def kill(self, name: str, number: int = signal.SIGKILL) -> list[int]:
        """Signals `name`'s processes, which the supervisor starts again. Gives their pids."""
        pids = self.pids(name)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    def restarts(self, name: str) -> int:
        """The number of restarts of process `name` or `name`-0."""
        processes = self.state().processes
        return sum(
            process.restarts for process in processes if process.name.removesuffix("-0") == name
        )

    def logs(self, name: str) -> str:
        """The output of process `name`; "up" is the supervisor itself."""
        path = self.directory / "logs" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextlib.contextmanager
def running(
    directory: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> Iterator[System]:
    """A new system in `directory`, ready, which is stopped at the end. `options` are those of `freshet up`;
    every port that is not given is a free one.

    Call it from the main thread: the system ends with the thread that started it. Errors: `home.Unusable`;
    `SystemFailed`, with the output of `freshet up`, where the system is not ready in `seconds`.
    """
    directory = home.prepare_folder(directory)
    (directory / "logs").mkdir(exist_ok=True)
    if "--port" not in options:
        options = (*options, "--port", str(services.free_port()))
    command = [*FRESHET, "up", "--data-dir", str(directory), *options]
    inherited = {**os.environ, **(environment or {}), **own_modules()}
    with (directory / "logs" / "up.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=inherited,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
    try:
        state = _await_ready(directory, process, seconds)
        settings = from_environment(state.environment)
        yield System(directory, process, settings, state.url)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(directory: Path, process: subprocess.Popen[bytes], seconds: float) -> home.Up:
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        state = home.read(directory)
        if state and state.ready and state.pid == process.pid:
            return state
        time.sleep(0.02)
    log = directory / "logs" / "up.log"
    state_now = "ended" if process.poll() is not None else f"is not ready after {seconds:g} s"
    raise SystemFailed(f"freshet up {state_now}: {log.read_text(errors='replace').strip()[-2000:]}")


def _on_signals(supervisor: Supervisor) -> threading.Event:
    stop = threading.Event()

    def request_stop(number: int, frame: FrameType | None) -> None:
        supervisor.hurry = stop.is_set()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, request_stop)
    return stop


def _state(plan: Plan, supervisor: Supervisor, started_at: int) -> home.Up:
    return home.Up(
        pid=os.getpid(),
        started_at=started_at,
        data_dir=str(plan.settings.data_dir),
        url=plan.url,
        kafka_bootstrap=plan.settings.kafka_bootstrap,
        redis_url=plan.settings.redis_url,
        ready=supervisor.was_ready,
        environment=to_environment(plan.settings),
        processes=[_process(child, plan) for child in supervisor.children.values()],
    )


def _process(child: Child, plan: Plan) -> home.RunningProcess:
    return home.RunningProcess(
        name=child.program.name,
        pid=child.pid,
        state=child.state,
        restarts=child.restarts,
        log=str(child.log),
        last_exit=child.last_exit,
        metrics_port=plan.metrics_ports.get(child.program.name, 0),
    )
