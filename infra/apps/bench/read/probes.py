"""What one load of a running system costs, and what a worker of it needs."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from infra.apps.bench import cpu
from infra.apps.bench.live import cpu_by_component, refuse_errors, settle
from infra.apps.bench.load import Generator, NotMeasured
from infra.apps.inspect.scrape import Samples, scrape, total
from infra.local import services
from infra.local.plan import FRESHET, child_environment
from infra.local.system import System
from infra.signals import die_with_parent

NEW_ITEMS: Final = 5
_TIMEOUT_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.001
_STAGE: Final = "freshet_stage_seconds"
_WAITING: Final = {"read", "queue"}
"""Stages in which a read waits, for the store and for its turn: their time is no CPU."""
_SHED: Final = "freshet_shed_total"
_LOOP_LAG: Final = "freshet_longest_turn_seconds"


class Load(NamedTuple):
    """One load. CPU in µs a request, without what the processes use idle; `cpu_us_system` until everything
    that was logged is folded."""

    requests_per_s: float
    latency_ms: dict[str, float]
    cpu_us_serving: float
    cpu_us_system: float
    us_by_stage: dict[str, float]
    """Means, of the stages that are work, as serving measures them; empty for a bare route."""
    loop_lag_ms: float


class WorkerFigures(NamedTuple):
    ready_s: float
    rss_mb: float
    new_item_visible_ms: float


def load(
    system: System, report: Callable[[], dict[str, Any]], idle: dict[str, float]
) -> tuple[Load, dict[str, Any]]:
    """The load that `report` runs, a report of `load.c` without a warm-up. `idle`: cores that each component
    uses without work. Errors: `NotMeasured`, also where a request failed or was shed."""
    ports = _ports(system)
    before_samples = list(map(_scrape, ports))  # a scrape resets the longest turn
    began, before = time.monotonic(), cpu_by_component(system)
    made = report()
    served, took = cpu_by_component(system), time.monotonic() - began
    after_samples = list(map(_scrape, ports))
    refuse_errors(made)
    settle(system)
    folded, whole = cpu_by_component(system), time.monotonic() - began
    answers = made["completed"]
    if not answers:
        raise NotMeasured("no request was answered")
    if shed := _grown(before_samples, after_samples, _SHED):
        raise NotMeasured(f"{shed:.0f} of {answers} reads were shed: they were no reads")
    serving = cpu.without_idle(before, served, idle, took)["edge"] - before["edge"]
    all_of_it = cpu.without_idle(before, folded, idle, whole)
    return Load(
        made["requests_per_s"],
        {name: made["latency_ms"][name] for name in ("p50", "p95", "p99")},
        serving * 1e6 / answers,
        sum(all_of_it[name] - before[name] for name in before) * 1e6 / answers,
        by_stage(before_samples, after_samples),
        1000 * max(map(_loop_lag, after_samples)),
    ), made


def bare_load(pid: int, generator: Generator, path: str, seconds: float, callers: int) -> Load:
    """Requests of a single process beside the system."""
    began = cpu.cpu_seconds(pid)
    made = generator.closed([path], seconds, callers)
    used = cpu.cpu_seconds(pid) - began
    refuse_errors(made)
    us = used * 1e6 / made["completed"]
    latency = {name: made["latency_ms"][name] for name in ("p50", "p95", "p99")}
    return Load(made["requests_per_s"], latency, us, us, {}, 0.0)


def worker(system: System) -> WorkerFigures:
    """Of a worker of the system, after its load. Errors: `NotMeasured`."""
    most = max(map(_resident, system.pids("serving")))
    visible = median(_visible_ms(system, number) for number in range(NEW_ITEMS))
    return WorkerFigures(round(_ready_seconds(system), 2), round(most / 1e6, 1), round(visible, 1))


def _ready_seconds(system: System) -> float:
    """From the start of one more worker, a new process, until it answers that it is ready."""
    port = services.free_port()
    settings = msgspec.structs.replace(system.settings, port=port)
    began = time.monotonic()
    with subprocess.Popen(
        [*FRESHET, "serve"],
        env=child_environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent(),
    ) as process:
        try:
            while not services.http_answers(f"http://{services.HOST}:{port}"):
                if process.poll() is not None or time.monotonic() - began > _TIMEOUT_SECONDS:
                    raise NotMeasured("one more serving process does not become ready")
                time.sleep(_POLL_SECONDS)
            return time.monotonic() - began
        finally:
            process.terminate()


def _visible_ms(system: System, number: int) -> float:
    """From the POST of a new item until a worker says that its index holds it."""
    name, address = f"new-{time.time_ns()}-{number}", urlsplit(system.url)
    headers = {"Authorization": f"Bearer {system.token}"} if system.token else {}
    body = json.dumps(
        {"item_id": name, "title": f"A new item, number {number}", "category": "Drama"}
    )
    connection = http.client.HTTPConnection(
        address.hostname or services.HOST, address.port, timeout=10
    )
    try:
        began = time.monotonic()
        kind = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/items", body, {**headers, **kind})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise NotMeasured(f"an item was not taken: {answer.status}")
        while time.monotonic() - began < _TIMEOUT_SECONDS:
            connection.request("GET", f"/v1/items/{name}", headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 200 and json.loads(text)["indexed"]:
                return (time.monotonic() - began) * 1000
            time.sleep(_POLL_SECONDS)
    finally:
        connection.close()
    raise NotMeasured(f"a new item is not visible after {_TIMEOUT_SECONDS:.0f} s")


def _ports(system: System) -> list[int]:
    processes = system.state().processes
    return [it.metrics_port for it in processes if it.name.startswith("serving")]


def _scrape(port: int) -> Samples:
    return scrape(services.HOST, port)


def by_stage(before: Sequence[Samples], after: Sequence[Samples]) -> dict[str, float]:
    """Mean µs of each stage, over all that passed it meanwhile."""
    sums, counts = (
        _of_stages(after, kind) - _of_stages(before, kind) for kind in ("_sum", "_count")
    )
    return {
        name: round(sums[name] * 1e6 / n, 2)
        for name, n in counts.items()
        if n > 0 and name not in _WAITING
    }


def _of_stages(scraped: Sequence[Samples], kind: str) -> Counter[str]:
    found = Counter[str]()
    for samples in scraped:
        for labels, value in samples.get(_STAGE + kind, {}).items():
            found[dict(labels)["stage"]] += value  # type: ignore[assignment]
    return found


def _grown(before: Sequence[Samples], after: Sequence[Samples], name: str) -> float:
    return sum(total(it, name) for it in after) - sum(total(it, name) for it in before)


def _loop_lag(samples: Samples) -> float:
    """Seconds, of the loop's own work. Errors: `NotMeasured`: the process does not say it."""
    held = [
        value for labels, value in samples.get(_LOOP_LAG, {}).items() if ("clock", "cpu") in labels
    ]
    if not held:
        raise NotMeasured("a serving process does not say how long its longest turn was")
    return max(held)


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
