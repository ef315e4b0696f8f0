"""Every process of a Freshet on one machine, as data: what runs, where, and what waits for what."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from infra.local import services
from infra.local.supervisor import Program
from infra.settings import (
    FILES,
    VARIABLES,
    BadSetting,
    Settings,
    from_environment,
    is_given,
    to_environment,
)
from schemas.flows import FLOWS

ROOT: Final = Path(__file__).resolve().parents[2]
FRESHET: Final = (sys.executable, "-m", "infra.cli")
PRELOAD: Final = ("infra.cli.preload",)
PRELOAD_PEOPLE: Final = ("infra.cli.run", "flows.people.dataflow")
"""What `infra.local.forkserver` imports for all processes, and for those of `people` alone."""
LAKE_KEEPER: Final = "lake-keeper"


@dataclass(frozen=True)
class Plan:
    """What one `up` runs. `settings` are those of every process; `own_*`: started here.
    `metrics_ports`: by its name, where a process answers scrapes."""

    settings: Settings
    own_broker: bool
    own_redis: bool
    workers: int = 2
    flow_workers: int = 1
    metrics_ports: Mapping[str, int] = field(default_factory=dict)

    @property
    def metrics_host(self) -> str:
        return scrape_host(self.settings)

    @property
    def url(self) -> str:
        return f"http://{client_host(self.settings.bind)}:{self.settings.port}"


def plan(
    directory: Path,
    environment: Mapping[str, str],
    *,
    port: int | None = None,
    redis_port: int | None = None,
    broker_port: int | None = None,
    workers: int = 2,
    flow_workers: int = 1,
) -> Plan:
    """Settles every address: given ports must be free, others are found.

    Errors: `services.NoService`, `settings.BadSetting`.
    """
    settings = from_environment(environment)
    asked = port if port is not None else settings.port if "FRESHET_PORT" in environment else None
    if asked == 0 or (asked is None and services.in_use(settings.port)):
        asked = services.free_port()
    own_broker = not is_given("kafka_bootstrap", environment)
    own_redis = not is_given("redis_url", environment)
    changes: dict[str, object] = {
        "data_dir": directory,
        "port": _chosen_port(asked, "--port", settings.bind) if asked else settings.port,
    }
    if own_broker:
        changes["kafka_bootstrap"] = f"{services.HOST}:{_chosen_port(broker_port, '--broker-port')}"
    if own_redis:
        own = _chosen_port(redis_port, "--redis-port")
        changes["redis_url"] = f"redis://{services.HOST}:{own}/0"
    settings = msgspec.structs.replace(settings, **changes)
    flow_workers = min(flow_workers, settings.partitions)
    names = [name for name, _ in _flows(settings, flow_workers)] + _serving(workers)
    # those of the services are settled and nobody listens there yet
    settled = {settings.port, *services.redis_ports(settings.redis_url)}
    settled |= set(map(_port, settings.kafka_bootstrap.split(",")))
    ports = dict(zip(names, _free_ports(len(names), settled), strict=True))
    return Plan(settings, own_broker, own_redis, workers, flow_workers, ports)


def unanswered_services(plan: Plan) -> list[str]:
    """A sentence for each service of somebody else's that does not answer now: it may yet."""
    told = []
    if not plan.own_broker and not any(map(_answers, plan.settings.kafka_bootstrap.split(","))):
        told.append("nothing answers at KAFKA_BOOTSTRAP: waiting for it")
    if not plan.own_redis and not services.redis_answers(plan.settings.redis_url):
        told.append("no Redis answers at REDIS_URL: waiting for it")
    return told


def programs(plan: Plan) -> list[Program]:
    """The processes of a system, dependencies first. Errors: `services.NoService`."""
    settings, root = plan.settings, plan.settings.data_dir
    listed = []
    if plan.own_broker:
        port = int(settings.kafka_bootstrap.rpartition(":")[2])
        command = services.broker_command(port, root / "broker", settings.log_level)
        answers_there = lambda: services.port_answers(port)  # noqa: E731
        listed.append(Program("broker", command, ready=answers_there, beats=True))
    if plan.own_redis:
        (at,) = services.redis_ports(settings.redis_url)
        command = services.redis_command(at, root / "redis")
        answers = lambda: services.redis_answers(settings.redis_url)  # noqa: E731
        listed.append(Program("redis", command, ready=answers))
    listed.append(Program("setup", [*FRESHET, "setup"], [it.name for it in listed], once=True))
    for name, command in _flows(settings, plan.flow_workers):
        own, killed = _own_variables(plan, name), name == LAKE_KEEPER
        listed.append(Program(name, command, ["setup"], beats=True, environment=own, killed=killed))
    for name in _serving(plan.workers):
        ready = lambda: services.http_answers(plan.url)  # noqa: E731
        serve = [*FRESHET, "serve"]
        own = _own_variables(plan, name)
        listed.append(Program(name, serve, ["setup"], ready, beats=True, environment=own))
    return listed


def people_processes(settings: Settings, workers: int) -> list[tuple[str, list[str]]]:
    """Name and command of each process of `people`: worker i of n owns the partitions p with
    p mod n = i. At most one a partition."""
    workers = min(workers, settings.partitions)
    listed = []
    for worker in range(workers):
        command = [*FRESHET, "flows", "run", "people"]
        for partition in range(worker, settings.partitions, workers):
            command += ["--partition", str(partition)]
        listed.append(("people" if workers == 1 else f"people-{worker}", command))
    return listed


def people_ports(settings: Settings, workers: int) -> dict[str, int]:
    """By its name, where each of so many processes of `people` answers scrapes: from `metrics_port` on,
    one port after another; nothing where that is 0. Errors: `settings.BadSetting`."""
    first, most = settings.metrics_port, 65536 - settings.partitions
    if not first:
        return {}
    if first > most:
        raise BadSetting(
            "FRESHET_METRICS_PORT is the first of the workers' ports, of which there may be one a partition:"
            f" with {settings.partitions} partitions it must be {most} or less"
        )
    return {name: first + n for n, (name, _) in enumerate(people_processes(settings, workers))}


def with_flow_workers(plan: Plan, flow_workers: int) -> Plan:
    """The same with so many workers for `people`, and a port for the metrics of each new one."""
    flow_workers = min(flow_workers, plan.settings.partitions)
    ports = dict(plan.metrics_ports)
    new = [name for name, _ in people_processes(plan.settings, flow_workers) if name not in ports]
    ports |= zip(new, _free_ports(len(new), set(ports.values())), strict=True)
    return replace(plan, flow_workers=flow_workers, metrics_ports=ports)


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of a process of ours: the settings, and one thread for linear algebra (many
    processes share the cores, and small matrices gain nothing from more)."""
    inherited = {name: it for name, it in os.environ.items() if name not in FILES.values()}
    return {
        **inherited,
        **to_environment(settings),
        **own_modules(),
        "PYTHONUNBUFFERED": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def own_modules() -> dict[str, str]:
    """The variables of a Python that runs our modules: those of this process, and none out of the folder
    where it is started, which may hold a `models.py` of its own."""
    return {"PYTHONPATH": python_path(), "PYTHONSAFEPATH": "1"}


def python_path() -> str:
    """Where a child finds our modules, also where Freshet is not installed. Where it is, a child finds them
    by itself: the folder of all packages must not come before the standard library."""
    installed = ROOT in map(Path.resolve, map(Path, site.getsitepackages()))
    ours = [] if installed else [str(ROOT)]
    return os.pathsep.join([*ours, *filter(None, [os.environ.get("PYTHONPATH")])])


def scrape_host(settings: Settings) -> str:
    """The host of its processes' metrics ports, as a client on this machine names it."""
    return client_host(settings.metrics_host or services.HOST)


def client_host(host: str) -> str:
    """`host` as a client on this machine names it, in an address with a port."""
    return services.HOST if host == "0.0.0.0" else f"[{host}]" if ":" in host else host


def _own_variables(plan: Plan, name: str) -> dict[str, str]:
    """The variables of process `name` alone."""
    port = plan.metrics_ports.get(name)
    return {VARIABLES["metrics_port"]: str(port)} if port else {}


def _serving(workers: int) -> list[str]:
    return ["serving"] if workers == 1 else [f"serving-{number}" for number in range(workers)]


def _flows(settings: Settings, workers: int) -> Iterator[tuple[str, list[str]]]:
    yield from people_processes(settings, workers)
    for flow in FLOWS:
        if flow.name != "people":
            yield flow.name, [*FRESHET, "flows", "run", flow.name]
    if settings.lake_keep_seconds:
        every = f"{settings.lake_keep_seconds:g}"
        yield LAKE_KEEPER, [*FRESHET, "lake", "keep", "--every", every]
    if settings.verify_seconds:
        yield "verify", [*FRESHET, "verify", "--every", f"{settings.verify_seconds:g}"]


def _answers(server: str) -> bool:
    host = server.strip().rpartition(":")[0]
    return bool(_port(server)) and services.port_answers(_port(server), host.strip("[]"))


def _port(server: str) -> int:
    """Of ``host:port``; 0 where it is none."""
    port = server.strip().rpartition(":")[2]
    return int(port) if port.isdigit() else 0


def _free_ports(count: int, settled: set[int]) -> list[int]:
    """So many different ones, and none of `settled`. Errors: `services.NoService`."""
    found: set[int] = set()
    while len(found) < count:
        found |= {services.free_port()} - settled
    return list(found)


def _chosen_port(port: int | None, option: str, host: str = services.HOST) -> int:
    if port is None:
        return services.free_port()
    if services.in_use(port, host):
        raise services.NoService(
            f"port {port} is in use: give another with {option}, or leave it out for a free one"
        )
    return port
