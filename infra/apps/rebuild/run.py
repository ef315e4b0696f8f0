"""A new generation of what is made of `events`, beside the live one, and the swap to it."""

from __future__ import annotations

import time
from typing import Any, Final

from flows.rebuild import fill, generations
from flows.snapshots import make, read
from infra.apps.rebuild import catch_up
from infra.lake.log import open_log
from infra.settings import Settings
from infra.store import generation
from infra.store.redis_client import Client
from infra.terminal.progress import Reporter
from schemas.topics import EVENTS

SERVING_TIMEOUT_SECONDS: Final = 60.0


def rebuild(
    client: Client, settings: Settings, base: str, keep: bool, reporter: Reporter
) -> dict[str, Any]:
    """Snapshot, fill, catch up and swap. Gives the report, as JSON."""
    keyspace = settings.keyspace
    old = generation.live(client, keyspace)
    _drop_unfinished(client, settings, reporter)
    snapshot, seconds, events = _snapshot(settings, base, reporter)
    new = generations.claim(client, keyspace)
    with reporter.work(f"keys of generation {new}") as wrote:
        fill.fill(client, settings, snapshot, new, wrote)
    with catch_up.flows(settings, new) as running, reporter.work("events since") as folded:
        catch_up.catch_up(client, settings, new, running, folded)
    # these flows end first: they and the flows that follow the pointer would fence each other
    fill.carry_relayed(client, settings, old, new)
    generations.swap(client, keyspace, old, new)
    generations.await_serving(client, keyspace, new, SERVING_TIMEOUT_SECONDS)
    reporter(f"generation {new} is live instead of {old}")
    dropped = 0 if keep else _delete(client, settings, old, reporter)
    return {
        "generation": new,
        "before": old,
        "kept": keep,
        "events": events,
        "seconds": round(seconds, 3),
        "events_per_second": round(events / seconds) if seconds else None,
        "dropped_keys": dropped,
    }


def _snapshot(settings: Settings, base: str, reporter: Reporter) -> tuple[Any, float, int]:
    """A snapshot at the end of the log, the seconds it took, and the number of events folded for it."""
    log = open_log(settings)
    bounds = [log.bounds(EVENTS.name, p) for p in range(settings.partitions)]
    start = read.latest(settings) if base == "snapshot" else None
    begins = start.offsets if start else [first for first, _ in bounds]
    events = sum(end for _, end in bounds) - sum(begins)
    began = time.monotonic()
    with reporter.work("events folded", events) as folded:
        made = make.make(settings, log, [end for _, end in bounds], start, folded)
    return made, time.monotonic() - began, events


def _drop_unfinished(client: Client, settings: Settings, reporter: Reporter) -> None:
    """Deletes the unfinished generation of a rebuild that was killed."""
    for number, role in generations.roles(client, settings.keyspace).items():
        if role == "filling":
            _delete(client, settings, number, reporter)


def _delete(client: Client, settings: Settings, generation: int, reporter: Reporter) -> int:
    with reporter.work(f"keys of generation {generation} deleted") as dropped:
        return generations.drop(client, settings, generation, dropped)


def swap_back(client: Client, settings: Settings, reporter: Reporter) -> dict[str, Any]:
    """Swaps back to the generation that was kept. Gives the report, as JSON. Errors: `NotSwapped`."""
    keyspace = settings.keyspace
    roles = generations.roles(client, keyspace)
    kept = [number for number, role in roles.items() if role == "kept"]
    if not kept:
        raise generations.NotSwapped(
            "there is nothing to swap back to: `freshet rebuild --keep` keeps a generation"
        )
    old, new = generation.live(client, keyspace), max(kept)
    generations.swap(client, keyspace, old, new)
    generations.await_serving(client, keyspace, new, SERVING_TIMEOUT_SECONDS)
    reporter(f"generation {new} is live instead of {old}; its flows fold the events since then")
    return {"generation": new, "before": old, "kept": True}


def drop_unused(client: Client, settings: Settings, reporter: Reporter) -> dict[str, Any]:
    """Deletes every generation that is not live. Gives the keys deleted of each, as JSON."""
    roles = generations.roles(client, settings.keyspace)
    beside = [number for number, role in roles.items() if role != "live"]
    dropped = {str(number): _delete(client, settings, number, reporter) for number in beside}
    return {"dropped": dropped}
