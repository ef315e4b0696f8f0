"""The health of this instance: one list of faults for `/health/ready`, `/v1/status` and the metrics.

A fault in `fails` makes `/health/ready` a 503: this instance cannot answer, and another may. It has not
loaded yet; it cannot read the state that another version stored; nothing durable takes its writes; its
clock is off; one of its tasks has ended. A fault in `degraded` keeps it a 200 that names the fault: all
instances have it at once, and a load balancer would remove all of them although they answer. Redis is away
(reads are answered from the state in process), the broker is away (writes go to the spool), a flow hangs
(reads are not fresh), a release cannot be loaded (reads are answered without it).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from serving.context import Serving
from serving.log.writes import Writes
from serving.state.background import STALE_AFTER_SECONDS, Component, Fault
from serving.state.clock import ClockCheck
from serving.state.compatibility import Compatibility
from serving.state.follow import Follower
from serving.state.generation import Generation
from serving.state.issuer_keys import IssuerKeys
from serving.state.probe import Probe

_Loaded = Follower | Generation | Compatibility
"""Components that load what is stored."""


class Health(NamedTuple):
    """`components`: by name, whether the component has no fault. One may have faults of both kinds."""

    components: dict[str, bool]
    fails: tuple[Fault, ...]
    degraded: tuple[Fault, ...]


def health(serving: Serving) -> Health:
    """The faults of now, and whether each component is without one."""
    fails, degraded = tuple(_fails(serving)), tuple(_degraded(serving))
    components = dict.fromkeys(_names(serving), True)
    components |= {fault.part: False for fault in fails + degraded}
    return Health(components, fails, degraded)


def is_loading(serving: Serving) -> bool:
    """Whether state is on its way: not where the store is away, or holds what this version cannot read."""
    loads = [component for component in serving.components if isinstance(component, _Loaded)]
    if any(isinstance(component, Follower) and component.unreadable for component in loads):
        return False
    return _redis_answers(serving) and not all(component.loaded for component in loads)


def _redis_answers(serving: Serving) -> bool:
    probes = [component for component in serving.components if isinstance(component, Probe)]
    return all(probe.reachable()["redis"] for probe in probes)


def _names(serving: Serving) -> Iterator[str]:
    for component in serving.components:
        yield from component.reachable() if isinstance(component, Probe) else [component.name]
    yield from serving.lag.flows.values()


def _fails(serving: Serving) -> Iterator[Fault]:
    yield from serving.clock_check.faults()
    for component in serving.components:
        if (
            not isinstance(component, Probe | ClockCheck)
            and not component.ready
            and not _serves_stale(component)
        ):
            code = (
                "unreadable"
                if isinstance(component, Follower) and component.unreadable
                else "not_ready"
            )
            yield Fault(component.name, code, _not_ready_detail(component))
    people = serving.compatibility
    if people.fault is not None and people.fails:
        yield people.fault


def _serves_stale(component: Component) -> bool:
    """Whether it serves with the state that it loaded."""
    return isinstance(component, _Loaded) and component.loaded


def _not_ready_detail(component: Component) -> str:
    if isinstance(component, Follower) and component.unreadable:
        return f"{component.name}: {component.unreadable}."
    if isinstance(component, _Loaded):
        return f"{component.name} is not loaded yet."
    if isinstance(component, Writes):
        return "No write would be durable: the broker is away, and the spool is full or unwritable."
    return f"A task of {component.name} has ended: restart this process."


def _degraded(serving: Serving) -> Iterator[Fault]:
    yield from _services(serving)
    for component in serving.components:
        if (
            isinstance(component, Follower | Generation)
            and component.loaded
            and not component.ready
        ):
            why = (
                f" ({component.unreadable})"
                if isinstance(component, Follower) and component.unreadable
                else ""
            )
            detail = f"{component.name} serves with the state that it received last{why}."
            yield Fault(component.name, "not_heard", detail)
    people = serving.compatibility
    if people.fault is not None and not people.fails:
        yield people.fault
    for component in serving.components:
        if isinstance(component, IssuerKeys):
            yield from component.faults()
    yield from serving.releases.faults()
    yield from serving.lag.faults()


def _services(serving: Serving) -> Iterator[Fault]:
    """A fault of each service that has not answered within `STALE_AFTER_SECONDS`."""
    spooled = serving.writes.waiting
    meanwhile = {
        "redis": "reads are answered without the state of people (fallback store_down).",
        "broker": f"writes go to the spool (durable: spool), {spooled} records wait on disk.",
    }
    for component in serving.components:
        if isinstance(component, Probe):
            for name, answers in component.reachable().items():
                if not answers:
                    detail = (
                        f"{name} has not answered for {STALE_AFTER_SECONDS:g} s: {meanwhile[name]}"
                    )
                    yield Fault(name, "no_answer", detail)
