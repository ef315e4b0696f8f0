"""How this instance does: one list of faults, for `/health/ready`, `/v1/status` and the metrics alike.

What `fails` makes `/health/ready` a 503: this instance cannot answer, and another may. It has not loaded
yet; it cannot read what another version stored about people; nothing durable takes its writes; a task of
it has ended. What is `degraded` leaves it a 200 that says so: every instance has it at once, so whoever
balances load would take all of them out, although they answer. Redis is away (reads are answered from what
is in process), the broker is (writes go to the spool), a flow hangs (reads are not fresh), a release
cannot be loaded (reads are answered without).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from serving.context import Serving
from serving.log.writes import Writes
from serving.state.background import STALE_AFTER_SECONDS, Component, Fault
from serving.state.compatibility import Compatibility
from serving.state.follow import Follower
from serving.state.generation import Generation
from serving.state.probe import Probe


class Health(NamedTuple):
    """`components`: by name, whether it does what it should. A part may have faults of both kinds."""

    components: dict[str, bool]
    fails: tuple[Fault, ...]
    degraded: tuple[Fault, ...]


def health(serving: Serving) -> Health:
    fails, degraded = tuple(_fails(serving)), tuple(_degraded(serving))
    components = dict.fromkeys(_names(serving), True)
    components |= {fault.part: False for fault in fails + degraded}
    return Health(components, fails, degraded)


def _names(serving: Serving) -> Iterator[str]:
    for part in serving.components:
        yield from part.answers() if isinstance(part, Probe) else [part.name]
    yield from serving.lag.flows.values()


def _fails(serving: Serving) -> Iterator[Fault]:
    for part in serving.components:
        if not isinstance(part, Probe) and not part.ready and not _goes_on(part):
            code = "unreadable" if isinstance(part, Follower) and part.unreadable else "not_ready"
            yield Fault(part.name, code, _why(part))
    people = serving.compatibility
    if people.fault is not None and people.fails:
        yield people.fault


def _goes_on(part: Component) -> bool:
    """Whether it serves with what it has."""
    return isinstance(part, Follower | Generation | Compatibility) and part.loaded


def _why(part: Component) -> str:
    if isinstance(part, Follower) and part.unreadable:
        return f"{part.name}: {part.unreadable}."
    if isinstance(part, Follower | Generation | Compatibility):
        return f"{part.name} is not loaded yet."
    if isinstance(part, Writes):
        return "Nothing durable would take a write: the broker is away, the spool is full or unwritable."
    return f"A task of {part.name} has ended: restart this process."


def _degraded(serving: Serving) -> Iterator[Fault]:
    yield from _services(serving)
    for part in serving.components:
        if isinstance(part, Follower | Generation) and part.loaded and not part.ready:
            why = f" ({part.unreadable})" if isinstance(part, Follower) and part.unreadable else ""
            detail = f"{part.name} goes on as it was last heard of{why}."
            yield Fault(part.name, "not_heard", detail)
    people = serving.compatibility
    if people.fault is not None and not people.fails:
        yield people.fault
    yield from serving.releases.faults()
    yield from serving.lag.faults()


def _services(serving: Serving) -> Iterator[Fault]:
    """Those that have not answered lately."""
    spooled = serving.writes.waiting
    meanwhile = {
        "redis": "people are answered as unknown (fallback store_down).",
        "broker": f"writes go to the spool (durable: spool), {spooled} records wait on disk.",
    }
    for part in serving.components:
        if isinstance(part, Probe):
            for name, answers in part.answers().items():
                if not answers:
                    detail = (
                        f"{name} has not answered for {STALE_AFTER_SECONDS:g} s: {meanwhile[name]}"
                    )
                    yield Fault(name, "no_answer", detail)
