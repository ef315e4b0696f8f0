"""Every process of a Freshet on one machine, as data: commands, addresses, dependencies."""

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
"""The modules that `infra.local.forkserver` imports for all processes, and for those of `people` alone."""
LAKE_KEEPER: Final = "lake-keeper"


@dataclass(frozen=True)
class Plan:
    """The processes of one `up`. `settings`: of every process; `own_*`: started by this `up`;
    `metrics_ports`: by a process's name."""

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
    """A plan with every address decided: given ports must be free, other ports are chosen here.

    Errors: `services.NoService`, `settings.BadSetting`.
    """
    settings = from_environment(environment)
    given = port if port is not None else settings.port if "FRESHET_PORT" in environment else None
    if given == 0 or (given is None and services.in_use(settings.port)):
        given = services.free_port()
    own_broker = not is_given("kafka_bootstrap", environment)
    own_redis = not is_given("redis_url", environment)
    if own_broker and settings.kafka_security_protocol != "PLAINTEXT":
        raise BadSetting(
            "KAFKA_SECURITY_PROTOCOL is for brokers of yours, and the one that is started here takes"
            " PLAINTEXT: set KAFKA_BOOTSTRAP to yours, or leave it out"
        )
    changes: dict[str, object] = {
        "data_dir": directory,
        "port": _chosen_port(given, "--port", settings.bind) if given else settings.port,
    }
    if own_broker:
        changes["kafka_bootstrap"] = f"{services.HOST}:{_chosen_port(broker_port, '--broker-port')}"
    if own_redis:
        chosen = _chosen_port(redis_port, "--redis-port")
        changes["redis_url"] = f"redis://{services.HOST}:{chosen}/0"
    settings = msgspec.structs.replace(settings, **changes)
    flow_workers = min(flow_workers, settings.partitions)
    names = [name for name, _ in _flows(settings, flow_workers)] + _serving(workers)
    # the ports of the services are chosen, and no process listens there yet
    taken = {settings.port, *services.redis_ports(settings.redis_url)}
    taken |= set(map(_port, settings.kafka_bootstrap.split(",")))
    ports = dict(zip(names, _free_ports(len(names), taken), strict=True))
    return Plan(settings, own_broker, own_redis, workers, flow_workers, ports)


def unanswered_services(plan: Plan) -> list[str]:
    """A sentence for each service of another installation that does not answer now; it may answer later.

    Errors: `KafkaSecurityError` where a broker answers, and refuses us.
    """
    from infra.kafka.reachable import check_security  # imports kafka-python

    warnings = []
    if not plan.own_broker and any(map(_answers, plan.settings.kafka_bootstrap.split(","))):
        check_security(plan.settings)
    elif not plan.own_broker:
        warnings.append("nothing answers at KAFKA_BOOTSTRAP: waiting for it")
    if not plan.own_redis and not services.redis_answers(plan.settings.redis_url):
        warnings.append("no Redis answers at REDIS_URL: waiting for it")
    return warnings


def programs(plan: Plan) -> list[Program]:
    """The processes of a system, dependencies first. Errors: `services.NoService`."""
    settings, listed = plan.settings, service_programs(plan)
    for name, command in _flows(settings, plan.flow_workers):
        own, killed = _own_variables(plan, name), name == LAKE_KEEPER
        listed.append(Program(name, command, ["setup"], beats=True, environment=own, killed=killed))
    for name in _serving(plan.workers):
        ready = lambda: services.http_answers(plan.url)  # noqa: E731
        serve = [*FRESHET, "serve"]
        own = _own_variables(plan, name)
        listed.append(Program(name, serve, ["setup"], ready, beats=True, environment=own))
    return listed


def service_programs(plan: Plan) -> list[Program]:
    """The plan's own broker and Redis, and what sets them up. Errors: `services.NoService`."""
    settings, root = plan.settings, plan.settings.data_dir
    listed = []
    if plan.own_broker:
        port = int(settings.kafka_bootstrap.rpartition(":")[2])
        command = services.broker_command(port, root / "broker", settings.log_level)
        broker_answers = lambda: services.port_answers(port)  # noqa: E731
        listed.append(Program("broker", command, ready=broker_answers, beats=True))
    if plan.own_redis:
        (redis_port,) = services.redis_ports(settings.redis_url)
        command = services.redis_command(redis_port, root / "redis")
        redis_answers = lambda: services.redis_answers(settings.redis_url)  # noqa: E731
        listed.append(Program("redis", command, ready=redis_answers, log_option="--logfile"))
    started = [program.name for program in listed]
    listed.append(Program("setup", [*FRESHET, "setup"], started, once=True))
    return listed


def people_processes(settings: Settings, workers: int) -> list[tuple[str, list[str]]]:
    """Name and command of each process of `people`: worker i of n owns the partitions p with p mod n = i.
    There is at most one worker a partition."""
    workers = min(workers, settings.partitions)
    listed = []
    for worker in range(workers):
        command = [*FRESHET, "flows", "run", "people"]
        for partition in range(worker, settings.partitions, workers):
            command += ["--partition", str(partition)]
        listed.append(("people" if workers == 1 else f"people-{worker}", command))
    return listed


def people_ports(settings: Settings, workers: int) -> dict[str, int]:
    """The metrics port of each of `workers` processes of `people`, by name: `metrics_port` and the ports
    above it; empty where `metrics_port` is 0. Errors: `settings.BadSetting`."""
    first, last = settings.metrics_port, 65536 - settings.partitions
    if not first:
        return {}
    if first > last:
        raise BadSetting(
            "FRESHET_METRICS_PORT is the first of the workers' ports, of which there may be one a partition:"
            f" with {settings.partitions} partitions it must be {last} or less"
        )
    return {name: first + n for n, (name, _) in enumerate(people_processes(settings, workers))}


def with_flow_workers(plan: Plan, flow_workers: int) -> Plan:
    """The plan with `flow_workers` processes of `people`, and a metrics port for each new one. Errors:
    `services.NoService`."""
    flow_workers = min(flow_workers, plan.settings.partitions)
    ports = dict(plan.metrics_ports)
    new = [name for name, _ in people_processes(plan.settings, flow_workers) if name not in ports]
    ports |= zip(new, _free_ports(len(new), set(ports.values())), strict=True)
    return replace(plan, flow_workers=flow_workers, metrics_ports=ports)


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of a process of Freshet: the settings, and one thread for linear algebra. Many
    processes share the cores, and small matrices gain nothing from more threads."""
    inherited = {name: value for name, value in os.environ.items() if name not in FILES.values()}
    return {
        **inherited,
        **to_environment(settings),
        **own_modules(),
        "PYTHONUNBUFFERED": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def own_modules() -> dict[str, str]:
    """The variables of a Python that imports the modules of this process. It imports none from its working
    folder, which may hold a `models.py` of its own."""
    return {"PYTHONPATH": python_path(), "PYTHONSAFEPATH": "1"}


def python_path() -> str:
    """PYTHONPATH of a child. An installed Freshet needs no entry, and gets none: the folder of all packages
    must not come before the standard library."""
    installed = ROOT in map(Path.resolve, map(Path, site.getsitepackages()))
    ours = [] if installed else [str(ROOT)]
    return os.pathsep.join([*ours, *filter(None, [os.environ.get("PYTHONPATH")])])


def scrape_host(settings: Settings) -> str:
    """The host of the processes' metrics ports, as a client on this machine names it."""
    return client_host(settings.metrics_host or services.HOST)


def client_host(host: str) -> str:
    """`host` as a client on this machine names it, in an address with a port."""
    return services.HOST if host == "0.0.0.0" else f"[{host}]" if ":" in host else host


def _own_variables(plan: Plan, name: str) -> dict[str, str]:
    """The variables that only process `name` gets."""
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
        seconds = f"{settings.lake_keep_seconds:g}"
        yield LAKE_KEEPER, [*FRESHET, "lake", "keep", "--every", seconds]
    if settings.verify_seconds:
        yield "verify", [*FRESHET, "verify", "--every", f"{settings.verify_seconds:g}"]


def _answers(server: str) -> bool:
    host = server.strip().rpartition(":")[0]
    return bool(_port(server)) and services.port_answers(_port(server), host.strip("[]"))


def _port(server: str) -> int:
    """The port of ``host:port``; 0 where there is none."""
    port = server.strip().rpartition(":")[2]
    return int(port) if port.isdigit() else 0


def _free_ports(count: int, taken: set[int]) -> list[int]:
    """`count` different free ports, none of them in `taken`. Errors: `services.NoService`."""
    ports: set[int] = set()
    while len(ports) < count:
        ports |= {services.free_port()} - taken
    return list(ports)


def _chosen_port(port: int | None, option: str, host: str = services.HOST) -> int:
    if port is None:
        return services.free_port()
    if services.in_use(port, host):
        raise services.NoService(
            f"port {port} is in use: give another with {option}, or leave it out for a free one"
        )
    return port
