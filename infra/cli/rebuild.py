"""`freshet rebuild`: what is made of `events`, made again from the log beside what is live, and swapped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from infra.cli.console import find, json_option, print_json, system_option

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.store import Client
    from infra.terminal.progress import Said

SERVING_SECONDS: Final = 60.0


@click.command("rebuild")
@click.option(
    "--from",
    "base",
    type=click.Choice(("snapshot", "beginning")),
    default="snapshot",
    show_default=True,
    help="Where to begin; a feature that changed needs the beginning.",
)
@click.option(
    "--partition", type=click.IntRange(0), help="Only this partition's people, in their place."
)
@click.option("--keep", is_flag=True, help="Keep the generation before, to swap back to.")
@click.option("--back", is_flag=True, help="Swap back to the generation that was kept.")
@click.option("--drop", is_flag=True, help="Delete generations that are not live.")
@json_option
@system_option
def rebuild_command(
    base: str,
    partition: int | None,
    keep: bool,
    back: bool,
    drop: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Make again what Redis holds of people and tables, from the log.

    A new generation of keys is filled beside the live one, from the newest snapshot and the log after
    it, while everything goes on. Once it has caught up it becomes the live one, without a gap, and the
    one before is deleted unless you --keep it.

    \b
    freshet rebuild --keep             and if it was a mistake: freshet rebuild --back
    freshet rebuild --from beginning   a feature has changed
    freshet rebuild --partition 3      put the people of one partition right
    """
    from rich.console import Console

    from flows.rebuild import generations as rebuild_swap
    from flows.rebuild import partition as rebuild_partition
    from infra import store
    from infra.terminal.progress import Quiet, Said

    if sum((partition is not None, back, drop)) > 1:
        raise click.UsageError("--partition, --back and --drop are for one at a time")
    settings = find(data_dir).settings
    said = Quiet(Console()) if as_json else Said(Console())
    with rebuild_swap.alone(settings), store.connect(settings) as client:
        if back:
            told = _back(client, said)
        elif drop:
            told = _drop(client, settings, said)
        elif partition is not None:
            told = rebuild_partition.rebuild(client, settings, partition, said)
        else:
            told = _rebuild(client, settings, base, keep, said)
    if as_json:
        print_json(told)


def _rebuild(
    client: Client, settings: Settings, base: str, keep: bool, said: Said
) -> dict[str, Any]:
    from flows.rebuild import fill as rebuild_fill
    from flows.rebuild import generations as rebuild_swap
    from infra import generation

    old = generation.live(client)
    _drop_halves(client, settings, said)
    snapshot, seconds, events = _snapshot(settings, base, said)
    new = rebuild_swap.claim(client)
    with said.work(f"keys of generation {new}") as wrote:
        rebuild_fill.fill(client, settings, snapshot, new, wrote)
    with rebuild_fill.flows(settings, new) as running, said.work("events since") as folded:
        rebuild_fill.catch_up(client, settings, new, running, folded)
    # its flows end first: those that follow the pointer would be put out by them, or put them out
    rebuild_fill.carry_relayed(client, settings, old, new)
    rebuild_swap.swap(client, old, new)
    rebuild_swap.await_serving(client, new, SERVING_SECONDS)
    said(f"generation {new} is live instead of {old}")
    dropped = 0 if keep else _delete(client, settings, old, said)
    return {
        "generation": new,
        "before": old,
        "kept": keep,
        "events": events,
        "seconds": round(seconds, 3),
        "events_per_second": round(events / seconds) if seconds else None,
        "dropped_keys": dropped,
    }


def _snapshot(settings: Settings, base: str, said: Said) -> tuple[Any, float, int]:
    """A snapshot at the log's end, the seconds it took, the events that were folded for it."""
    import time

    from flows.snapshots import make, read
    from infra.lake.log import open_log
    from schemas.topics import EVENTS

    log = open_log(settings)
    bounds = [log.bounds(EVENTS.name, p) for p in range(settings.partitions)]
    start = read.latest(settings) if base == "snapshot" else None
    begins = start.offsets if start else [first for first, _ in bounds]
    events = sum(end for _, end in bounds) - sum(begins)
    began = time.monotonic()
    with said.work("events folded", events) as folded:
        made = make.make(settings, log, [end for _, end in bounds], start, folded)
    return made, time.monotonic() - began, events


def _drop_halves(client: Client, settings: Settings, said: Said) -> None:
    """Deletes what a rebuild that was killed left."""
    from flows.rebuild import generations as rebuild_swap

    for generation, role in rebuild_swap.roles(client).items():
        if role == "filling":
            _delete(client, settings, generation, said)


def _delete(client: Client, settings: Settings, generation: int, said: Said) -> int:
    from flows.rebuild import generations as rebuild_swap

    with said.work(f"keys of generation {generation} deleted") as dropped:
        return rebuild_swap.drop(client, settings, generation, dropped)


def _back(client: Client, said: Said) -> dict[str, Any]:
    from flows.rebuild import generations as rebuild_swap
    from infra import generation

    kept = [number for number, role in rebuild_swap.roles(client).items() if role == "kept"]
    if not kept:
        raise rebuild_swap.NotSwapped("no generation was kept: there is nothing to swap back to")
    old, new = generation.live(client), max(kept)
    rebuild_swap.swap(client, old, new)
    rebuild_swap.await_serving(client, new, SERVING_SECONDS)
    said(f"generation {new} is live instead of {old}; its flows fold what came since")
    return {"generation": new, "before": old, "kept": True}


def _drop(client: Client, settings: Settings, said: Said) -> dict[str, Any]:
    from flows.rebuild import generations as rebuild_swap

    beside = [number for number, role in rebuild_swap.roles(client).items() if role != "live"]
    dropped = {str(number): _delete(client, settings, number, said) for number in beside}
    return {"dropped": dropped}
