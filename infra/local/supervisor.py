"""Keeps processes running: start in order, watch, restart with back-off, stop in reverse order.

What to run is data (`Program`); each event is reported as one line of text (`report`). One thread calls
`tick` a few times a second, or calls `run`, which does so. The thread that starts a `Supervisor`'s processes
must outlive them: Linux ends a child with the *thread* that forked it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from infra.backoff import STABLE_SECONDS, Pauses
from infra.heartbeat import BEAT_VARIABLE
from infra.local.launcher import Launcher, Process
from infra.log_files import LOG_VARIABLE, rotate

MAX_FAILURES: Final = 5
"""Failures in a row after which a process is not started again, if it never ran `WORKED_SECONDS`. A kill from
outside is no failure and does not count."""
GRACE_SECONDS: Final = 3.0
USAGE_EXIT_CODE: Final = 2
"""Exit code of a command that was called wrongly: a restart cannot help."""
FIRST_BEAT_SECONDS: Final = 120.0
"""Longest time until the first heartbeat of a process: the process imports its modules first."""
HANDOVER_VARIABLE: Final = "FRESHET_STAND_BY"
"""Variable that names a folder: a replacement makes a file in it when it is ready, and starts its work once
the folder is removed."""
HANDOVER_SECONDS: Final = 20.0

State = Literal["waiting", "starting", "up", "failed", "done", "stopped"]


@dataclass(frozen=True)
class Program:
    """One process to run. `ready`: whether dependents may start (None: once the process runs). `once`: the
    process ends by itself, and dependents wait for its exit 0. `environment`: variables of this process
    alone. `beats`: it sends heartbeats (`infra.heartbeat`). `killed`: it is ended by SIGKILL; a process of
    low priority that may end anywhere would not end in time on a busy machine. `log_option`: what
    names the log file to a process that opens it for each line, so that the supervisor rotates it; the others
    rotate theirs themselves (`infra.log_files`)."""

    name: str
    command: Sequence[str]
    depends_on: Sequence[str] = ()
    ready: Callable[[], bool] | None = None
    once: bool = False
    beats: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    killed: bool = False
    log_option: str = ""


@dataclass
class Child:
    """The state of a program's process. Times are of the supervisor's clock, in seconds. `beat`: its last
    heartbeat (0 before the first); `silent`: seconds since that heartbeat was noticed."""

    program: Program
    log: Path
    state: State = "waiting"
    process: Process | None = None
    restarts: int = 0
    failures: int = 0
    worked: bool = False
    started_at: float = 0.0
    start_at: float = 0.0
    pauses: Pauses = field(default_factory=Pauses)
    last_exit: str = ""
    beat: int = 0
    silent: float = 0.0
    checked_at: float = 0.0
    hung: bool = False

    @property
    def beat_file(self) -> Path:
        return self.log.with_suffix(".beat")

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def is_ready(self) -> bool:
        """Whether dependents may start."""
        return self.state == ("done" if self.program.once else "up")


@dataclass
class Supervisor:
    """Runs `programs`; `environment` is the whole environment of each process; the folder `logs` must exist,
    each file in it is bounded by `log_bytes` (0: no limit).

    A process without a heartbeat for `hang_seconds` (0: no limit) is killed, and restarted like any process
    that ended. `failure` is "", or the sentence why a program cannot run: stop ticking then. `hurry` makes
    `stop` kill at once.
    """

    programs: Sequence[Program]
    logs: Path
    environment: Mapping[str, str]
    report: Callable[[str], None] = lambda line: None
    launcher: Launcher = field(default_factory=Launcher)
    clock: Callable[[], float] = time.monotonic
    hang_seconds: float = 0.0
    log_bytes: int = 0
    failure: str = ""
    was_ready: bool = False
    hurry: bool = False
    children: dict[str, Child] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for program in self.programs:
            self.children[program.name] = Child(program, self.logs / f"{program.name}.log")

    def tick(self) -> bool:
        """Starts the processes that may start, and notices those that ended. True after any change."""
        changed = False
        for child in self.children.values():
            changed |= self._advance(child)
        if not self.was_ready and all(child.is_ready for child in self.children.values()):
            self.was_ready = changed = True
        return changed

    def run(
        self,
        stop: threading.Event,
        on_change: Callable[[], None] = lambda: None,
        before_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Ticks until `stop` is set or `failure` is. Ends no process: the method `stop` does."""
        while not stop.is_set() and not self.failure:
            before_tick()
            if self.tick():
                on_change()
            stop.wait(0.1 if self.was_ready else 0.02)

    def change(
        self, programs: Sequence[Program], stop: threading.Event, grace: float = GRACE_SECONDS
    ) -> None:
        """Runs `programs` from now on. New processes start first and wait (`await_handover`); then removed
        processes end, and the new ones go on. No program may depend on a removed one.
        """
        running = {name: child.program.command for name, child in self.children.items()}
        changed = [new for new in programs if running.get(new.name) != new.command]
        kept = {new.name for new in programs} - {new.name for new in changed}
        removed = running.keys() - kept
        # beside the logs: this process can write there
        with tempfile.TemporaryDirectory(prefix="handover-", dir=self.logs) as handover:
            fresh = [self._start_waiting(new, Path(handover)) for new in changed]
            self._await_waiting(fresh, Path(handover), stop)
            self._stop([self.children[name] for name in removed], grace)
        for name in removed:
            del self.children[name]
        self.programs = programs
        self.children |= {child.program.name: child for child in fresh}

    def _start_waiting(self, program: Program, handover: Path) -> Child:
        child = Child(program, self.logs / f"{program.name}.log", "starting")
        environment = {**self.environment, **program.environment, HANDOVER_VARIABLE: str(handover)}
        try:
            child.process = self._spawn(child, environment)
        except OSError as error:
            self.failure = f"{program.name} cannot be started: {error.strerror}"
        child.started_at = self.clock()
        return child

    def _await_waiting(self, fresh: Sequence[Child], handover: Path, stop: threading.Event) -> None:
        """Returns when each new process waits or has ended. Running processes are supervised meanwhile."""
        until = self.clock() + HANDOVER_SECONDS
        while self.clock() < until and not stop.is_set():
            if all(not _alive(child) or (handover / str(child.pid)).exists() for child in fresh):
                return
            self.tick()
            time.sleep(0.01)

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Ends every process, dependents first; SIGKILL after `grace` seconds, or at once with `hurry`."""
        for layer in reversed(_layers(self.programs)):
            self._stop([self.children[name] for name in layer], grace)

    def _stop(self, children: Sequence[Child], grace: float) -> None:
        for child in children:
            _signal(child, signal.SIGKILL if child.program.killed else signal.SIGTERM)
        until = time.monotonic() + grace
        while any(_alive(child) for child in children):
            if self.hurry or time.monotonic() > until:
                break
            time.sleep(0.01)
        for child in children:
            if _alive(child) and not (self.hurry or child.program.killed):
                self.report(f"{child.program.name} did not stop within {grace:g} s: killed")
            _end(child)

    def _advance(self, child: Child) -> bool:
        if child.process and _ended(child.process):
            return self._ended(child)
        if child.process and not child.hung and self._hangs(child):
            child.hung = True
            self.report(
                f"{child.program.name} hangs, it gave no sign of life for {child.silent:.0f} s: killed"
            )
            _signal(child, signal.SIGKILL)
        if child.state in ("waiting", "failed"):
            return self._start(child)
        if child.program.log_option:
            self._bound_log(child)
        if child.state == "starting" and not child.program.once:
            ready = child.program.ready
            if ready is None or ready():
                child.state = "up"
                return True
        return False

    def _hangs(self, child: Child) -> bool:
        if not (child.program.beats and self.hang_seconds):
            return False
        now, limit = self.clock(), self.hang_seconds
        # at most a second for each look: this process may have been stopped itself, with all others
        child.silent += min(now - child.checked_at, 1.0)
        child.checked_at, beat = now, _last_beat(child.beat_file)
        if beat != child.beat:
            child.beat, child.silent = beat, 0.0
        return child.silent > (limit if child.beat else max(limit, FIRST_BEAT_SECONDS))

    def _start(self, child: Child) -> bool:
        dependencies = (self.children[name] for name in child.program.depends_on)
        if self.clock() < child.start_at or not all(
            dependency.is_ready for dependency in dependencies
        ):
            return False
        if child.program.depends_on and not self.launcher.ready:
            return False  # processes without dependencies start meanwhile
        is_restart, child.state = child.state == "failed", "starting"
        child.started_at = self.clock()
        environment = {**self.environment, **child.program.environment}
        try:
            child.process = self._spawn(child, environment)
        except OSError as error:
            self.failure = f"{child.program.name} cannot be started: {error.strerror}"
            return True
        if is_restart:
            child.restarts += 1
            self.report(f"{child.program.name} restarted after {child.last_exit}")
        return True

    def _spawn(self, child: Child, environment: Mapping[str, str]) -> Process:
        self._bound_log(child)
        if self.log_bytes and not child.program.log_option:
            environment = {
                **environment,
                LOG_VARIABLE: f"{self.log_bytes}:{child.log.absolute()}",
            }
        child.beat, child.silent, child.hung, child.checked_at = 0, 0.0, False, self.clock()
        if child.program.beats and self.hang_seconds:
            child.beat_file.unlink(missing_ok=True)
            environment = {
                **environment,
                BEAT_VARIABLE: f"{self.hang_seconds:g}:{child.beat_file.absolute()}",
            }
        option, command = child.program.log_option, child.program.command
        if option:
            command = [*command, option, str(child.log.absolute())]
        return self.launcher.spawn(command, environment, child.log)

    def _bound_log(self, child: Child) -> None:
        """Rotates the log of a process that does not hold it open now."""
        with contextlib.suppress(OSError):  # no file yet, or a full disk
            if self.log_bytes and child.log.stat().st_size >= self.log_bytes:
                rotate(child.log)

    def _ended(self, child: Child) -> bool:
        assert child.process
        _end(child)
        code = child.process.wait()
        child.process = None
        if child.program.once and code == 0:
            child.state = "done"
            return True
        ran = self.clock() - child.started_at
        child.worked |= ran >= STABLE_SECONDS
        child.failures = 1 if ran >= STABLE_SECONDS else child.failures + 1
        child.state = "failed"
        # the last line of output explains an exit by itself, not a kill from outside
        line = "" if -code in (signal.SIGKILL, signal.SIGTERM) else last_line(child.log)
        child.last_exit = (
            f"{_exit_reason(code)}: {line}".rstrip(": ") if not child.hung else "a hang"
        )
        child.start_at = self.clock() + child.pauses.after(ran)
        hopeless = code == USAGE_EXIT_CODE or (code > 0 and child.failures >= MAX_FAILURES)
        if hopeless and not child.worked:
            times = f" {child.failures} times" if child.failures > 1 else ""
            self.failure = (
                f"{child.program.name} does not start, it ended{times} with {child.last_exit}"
                f" (log: {child.log})"
            )
        return True


def await_handover() -> None:
    """For a process that replaces others: returns once the others have ended. Call it after all slow
    preparation, and before the first access to the others' state."""
    if HANDOVER_VARIABLE not in os.environ:
        return
    handover = Path(os.environ.pop(HANDOVER_VARIABLE))
    with contextlib.suppress(OSError):
        (handover / str(os.getpid())).touch(exist_ok=False)
        while handover.exists():
            time.sleep(0.005)


def last_line(log: Path) -> str:
    """The last line of a log that holds text, at most 300 characters; "" where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _last_beat(file: Path) -> int:
    """When the file was touched last, in ns of the machine's clock, to compare with other beats; 0: never."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _ended(process: Process) -> bool:
    """Whether the process ended, without reaping it: an unreaped process keeps the number of its group."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return process.returncode is not None or os.waitid(os.P_PID, process.pid, flags) is not None


def _alive(child: Child) -> bool:
    return child.process is not None and not _ended(child.process)


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process and child.process.returncode is None:
        os.killpg(child.process.pid, number)


def _end(child: Child) -> None:
    """Kills the process and its group, as far as they still run, and reaps the process."""
    _signal(child, signal.SIGKILL)
    if child.process:
        child.process.wait()
        child.state = "stopped"


def _layers(programs: Sequence[Program]) -> list[list[str]]:
    """Names by distance from the programs without dependencies."""
    depth: dict[str, int] = {}
    for program in programs:  # dependencies come before dependents
        depth[program.name] = 1 + max((depth[name] for name in program.depends_on), default=-1)
    layers: list[list[str]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for name, distance in depth.items():
        layers[distance].append(name)
    return layers


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
