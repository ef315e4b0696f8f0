"""`freshet cold`: people not seen for long, whose records lie in the lake and not in Redis."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from infra.cli.options import json_option, print_json, system_option
from infra.local.find import find
from infra.terminal.text import console, table
from schemas.errors import FreshetError

if TYPE_CHECKING:
    from infra.settings import Settings

STALL_SECONDS: Final = 30.0


@click.group("cold")
def cold_command() -> None:
    """People not seen for long: their records lie in the lake until something comes for them.

    \b
    freshet cold sweep --days 180
    freshet cold status
    """


@cold_command.command("status")
@system_option
@json_option
def status(data_dir: Path | None, as_json: bool) -> None:
    """How many people are cold, by partition."""
    rows = [
        {"partition": p, "people": held.people, "moved_last": held.moved}
        for p, held in _held(find(data_dir).settings).items()
    ]
    if as_json:
        print_json({"partitions": rows, "people": sum(row["people"] for row in rows)})
    else:
        columns = ("#partition", "#cold people", "#moved by the last sweep")
        console().print(table("", columns, [list(row.values()) for row in rows]))


@cold_command.command("sweep")
@click.option(
    "--days",
    type=click.FloatRange(0, min_open=True),
    required=True,
    help="Who was not seen for so long moves to the lake.",
)
@click.option("--no-wait", is_flag=True, help="Only ask for it.")
@system_option
def sweep(days: float, no_wait: bool, data_dir: Path | None) -> None:
    """Move people not seen for DAYS from Redis to the lake.

    Their flow does it, a few hundred between two batches, and brings back whoever does something. Until
    then a read of theirs is answered from what is popular, and says that it is stale.
    """
    from secrets import token_hex

    from infra.store import redis_client
    from schemas.state import cold

    settings = find(data_dir).settings
    asked = cold.SweepRequest(token_hex(8), int((time.time() - days * 86_400) * 1000))
    with redis_client.connect(settings) as client:
        for p in range(settings.partitions):
            client.set(settings.keyspace.cold_asked(p), cold.encode(asked))
    if no_wait:
        click.echo("asked for")
        return
    click.echo(f"{_wait(settings, asked.id):,} people are cold now")


def _wait(settings: Settings, asked: str) -> int:
    """How many were moved. Errors: `FreshetError` where no flow takes it up."""
    until, before = time.monotonic() + STALL_SECONDS, -1
    while True:
        held = _held(settings)
        if all(it.done == asked for it in held.values()):
            return sum(it.moved for it in held.values())
        now = sum(it.people for it in held.values()) + sum(it.done == asked for it in held.values())
        if now != before:
            until, before = time.monotonic() + STALL_SECONDS, now
        if time.monotonic() > until:
            raise FreshetError(
                f"asked for, and nothing moved in {STALL_SECONDS:g} s: does the flow people run, and"
                " is the lake there? It is done as soon as both are"
            )
        time.sleep(0.1)


def _held(settings: Settings) -> dict[int, Any]:
    from infra.store import generation, redis_client
    from schemas.state import cold

    with redis_client.connect(settings) as client:
        live = generation.live_keys(client, settings)
        names = [live.cold(p) for p in range(settings.partitions)]
        return dict(enumerate(map(cold.decode, redis_client.mget(client, names))))
