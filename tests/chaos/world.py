"""The whole system in a folder, broker and Redis behind proxies, and every process at hand."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Final

import msgspec

from infra.local import services
from infra.local.apache_kafka import cluster_id
from infra.local.forkserver import ForkServer
from infra.local.kafka_properties import NodeIdentity
from infra.local.plan import FRESHET, child_environment
from infra.local.supervisor import Program, Supervisor
from infra.local.system import System, running
from infra.settings import Settings
from infra.signals import die_with_parent
from tests.chaos.proxy import HOST, Proxies

BROKERS: Final = {
    "embedded": "embedded",
    "kafka": "Apache Kafka",
    "kafka3": "three nodes of Apache Kafka",
}
"""What may stand behind "broker" -> how a report calls it."""
APACHE_KAFKA: Final = (sys.executable, "-m", "infra.local.apache_kafka")
PRELOAD_BROKER: Final = (
    "infra.broker.server",
    "infra.broker.node",
    "infra.local.apache_kafka",
    "uvloop",
)
ZOMBIE_SECONDS: Final = 30.0
AT_WORK: Final = 1
"""Sockets of a process that has begun to talk to Redis or the broker."""
KEEP: Final = {
    "FRESHET_AUTH": "off",
    # so that rare steps happen in a run of seconds
    "FRESHET_BASE_SECONDS": "2",
    "FRESHET_LAKE_SECONDS": "1",
}


class World:
    """`settings` go through the proxies, as the system does; `direct` past them."""

    def __init__(self, system: System, keeper: Supervisor, proxies: Proxies, direct: Settings):
        self.system, self.proxies, self.direct = system, proxies, direct
        self._keeper = keeper
        self._nodes = cycle(name for name in keeper.children if name != "redis")
        self._zombies: list[subprocess.Popen[bytes]] = []

    @property
    def settings(self) -> Settings:
        return self.system.settings

    @property
    def logs(self) -> Path:
        return self.system.directory / "logs"

    def processes(self, targets: Sequence[str]) -> tuple[str, ...]:
        """`targets`, with a process in the place of "broker": of several nodes the next one."""
        return tuple(next(self._nodes) if name == "broker" else name for name in targets)

    def pids(self, name: str) -> list[int]:
        """Of the processes of a name that run now."""
        if name not in self._keeper.children:
            return self.system.pids(name)
        pid = self._keeper.children[name].pid
        return (_children(pid) or [pid]) if pid else []

    def signal(self, pids: Sequence[int], number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self, *names: str) -> None:
        """Kills all at once; the supervisor of each starts it again."""
        self.signal([pid for name in names for pid in self.pids(name)], signal.SIGKILL)

    def zombie(self, name: str) -> None:
        """Starts an unplanned second process of a flow; returns when it works, or is fenced."""
        with (self.logs / f"zombie-{name}.log").open("ab") as output:
            process = subprocess.Popen(
                [*FRESHET, "flows", "run", name],
                env=child_environment(msgspec.structs.replace(self.settings, metrics_port=0)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent(),
            )
        self._zombies.append(process)
        services.wait_until(
            lambda: process.poll() is not None or _sockets(process.pid) >= AT_WORK,
            ZOMBIE_SECONDS,
            f"the zombie of {name} is not at work",
        )

    def lay_to_rest(self) -> None:
        for process in self._zombies:
            process.kill()
            process.wait()
        self._zombies.clear()

    def forget(self, seconds: float) -> int:
        """Redis as after a power cut: what it wrote in the last `seconds` is gone. How many bytes."""
        file = _append_only(self.direct.data_dir)
        held = file.stat().st_size
        time.sleep(seconds)
        pids = self.pids("redis")
        self.signal(pids, signal.SIGKILL)
        for pid in pids:
            _await_end(pid)
        if file != _append_only(self.direct.data_dir):
            return 0  # it began another file meanwhile
        lost = file.stat().st_size - held
        os.truncate(file, held)
        return lost


@contextlib.contextmanager
def world(directory: Path, broker: str = "embedded") -> Iterator[World]:
    """Everything is up and answers. `broker`: one of `BROKERS`. Errors: RuntimeError, `services.NoService`.

    Call it from the main thread.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.resolve()
    brokers = ("broker-1", "broker-2", "broker-3") if broker == "kafka3" else ("broker",)
    ports = {name: (services.free_port(), services.free_port(2)) for name in (*brokers, "redis")}
    direct = Settings(
        kafka_bootstrap=",".join(f"{HOST}:{ports[name][1]}" for name in brokers),
        redis_url=f"redis://{HOST}:{ports['redis'][1]}/0",
        data_dir=directory,
    )
    proxies = Proxies(ports)
    try:
        with (
            _kept(_programs(directory, ports, broker), directory) as keeper,
            running(directory / "system", environment=_environment(ports), seconds=90) as system,
        ):
            made = World(system, keeper, proxies, direct)
            try:
                yield made
            finally:
                made.lay_to_rest()
    finally:
        proxies.close()


def _environment(ports: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    brokers = (front for name, (front, _) in ports.items() if name != "redis")
    return {
        "KAFKA_BOOTSTRAP": ",".join(f"{HOST}:{front}" for front in brokers),
        "REDIS_URL": f"redis://{HOST}:{ports['redis'][0]}/0",
        **KEEP,
    }


def _programs(directory: Path, ports: Mapping[str, tuple[int, int]], broker: str) -> list[Program]:
    for name in (*ports, "logs"):
        (directory / name).mkdir(exist_ok=True)
    brokers = {name: its for name, its in ports.items() if name != "redis"}
    controllers, cluster = tuple(port + 1 for _, port in brokers.values()), cluster_id()
    nodes = []
    for number, (name, (front, port)) in enumerate(brokers.items(), 1):
        command = services.broker_command(port, directory / name)
        if broker != "embedded":
            data = ["--data", str(directory / name), "--port", str(port)]
            member = str(NodeIdentity(number, controllers, cluster))
            command = [*APACHE_KAFKA, *data, "--member", member]
        command = [*command, "--advertised", f"{HOST}:{front}"]
        nodes.append(Program(name, command, ready=partial(services.port_answers, port)))
    redis = ports["redis"][1]
    url = f"redis://{HOST}:{redis}/0"
    return [
        *nodes,
        Program(
            "redis",
            services.redis_command(redis, directory / "redis"),
            ready=lambda: services.redis_answers(url),
        ),
    ]


@contextlib.contextmanager
def _kept(programs: Sequence[Program], directory: Path) -> Iterator[Supervisor]:
    """Broker and Redis, started again as `freshet up` would, by a thread that stops with the block."""
    environment, logs = child_environment(Settings()), directory / "logs"
    launcher = ForkServer(PRELOAD_BROKER, environment, logs / "forkserver.log")
    keeper = Supervisor(programs, logs, environment, launcher=launcher)
    stop = threading.Event()

    def keep() -> None:
        try:
            keeper.run(stop)
        finally:
            for it in keeper.children.values():
                for child in _children(it.pid) if it.pid else ():
                    os.kill(child, signal.SIGKILL)  # it would outlive its parent
            keeper.stop()

    thread = threading.Thread(target=keep, name="keeper")
    thread.start()
    try:
        services.wait_until(
            lambda: keeper.was_ready or bool(keeper.failure), 90, "broker and Redis do not answer"
        )
        if keeper.failure:
            raise RuntimeError(keeper.failure)
        yield keeper
    finally:
        stop.set()
        thread.join()
        launcher.close()


def _children(pid: int) -> list[int]:
    """Apache Kafka is the child of what was started."""
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


def _sockets(pid: int) -> int:
    """The number of open sockets of a process."""
    found = 0
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found += str(path.readlink()).startswith("socket:")
    return found


def _append_only(directory: Path) -> Path:
    """The file that Redis appends to now."""
    files = (directory / "redis" / "appendonlydir").glob("*.incr.aof")
    return max(files, key=lambda path: int(path.name.split(".")[-3]))


def _await_end(pid: int) -> None:
    """Waits for the end of a process that another process reaps."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.001)
