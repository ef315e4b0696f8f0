"""`freshet cold`: inactive people, whose state lies in the lake and not in Redis."""

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
    """Keep the state of inactive people in the lake, until an event of theirs comes.

    \b
    freshet cold sweep --days 180
    freshet cold status
    """


@cold_command.command("status")
@system_option
@json_option
def status(data_dir: Path | None, as_json: bool) -> None:
    """Count the cold people of each partition."""
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
    help="Move people without an event for so many days.",
)
@click.option("--no-wait", is_flag=True, help="Send the request, and do not wait until it is done.")
@system_option
def sweep(days: float, no_wait: bool, data_dir: Path | None) -> None:
    """Move people without an event for DAYS from Redis to the lake.

    The flow `people` moves some hundred of them between two batches, and brings a person back at their next
    event. Until then a read for that person answers popular items and says that it is stale.
    """
    from secrets import token_hex

    from infra.store import redis_client
    from schemas.state import cold

    settings = find(data_dir).settings
    request = cold.SweepRequest(token_hex(8), int((time.time() - days * 86_400) * 1000))
    with redis_client.connect(settings) as client:
        for p in range(settings.partitions):
            client.set(settings.keyspace.cold_asked(p), cold.encode(request))
    if no_wait:
        click.echo("the flow people was asked to sweep; `freshet cold status` shows its progress")
        return
    click.echo(f"{_wait(settings, request.id):,} people are cold now")


def _wait(settings: Settings, request_id: str) -> int:
    """The number of people moved. Errors: `FreshetError` where no flow makes progress."""
    until, before = time.monotonic() + STALL_SECONDS, -1
    while True:
        held = _held(settings)
        if all(it.done == request_id for it in held.values()):
            return sum(it.moved for it in held.values())
        now = sum(it.people for it in held.values()) + sum(
            it.done == request_id for it in held.values()
        )
        if now != before:
            until, before = time.monotonic() + STALL_SECONDS, now
        if time.monotonic() > until:
            raise FreshetError(
                f"the flow people has moved nothing for {STALL_SECONDS:g} s: check that it runs and that the"
                " lake can be written. The request waits until both are so"
            )
        time.sleep(0.1)


def _held(settings: Settings) -> dict[int, Any]:
    from infra.store import generation, redis_client
    from schemas.state import cold

    with redis_client.connect(settings) as client:
        live = generation.live_keys(client, settings)
        names = [live.cold(p) for p in range(settings.partitions)]
        return dict(enumerate(map(cold.decode, redis_client.mget(client, names))))
