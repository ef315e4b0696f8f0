"""`freshet rebuild`: what is made of `events`, made again from the log beside what is live, and swapped."""

from __future__ import annotations

from pathlib import Path

import click

from infra.cli.options import json_option, print_json, system_option
from infra.local.find import find


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

    from flows.rebuild import generations, in_place
    from infra.apps.rebuild import run
    from infra.local.home import prepare_folder
    from infra.store import redis_client
    from infra.terminal.progress import Reporter, SilentReporter

    if sum((partition is not None, back, drop)) > 1:
        raise click.UsageError("--partition, --back and --drop are for one at a time")
    settings = find(data_dir).settings
    prepare_folder(settings.data_dir, needed=False)
    said = SilentReporter(Console()) if as_json else Reporter(Console())
    with generations.rebuild_lock(settings), redis_client.connect(settings) as client:
        if back:
            report = run.swap_back(client, settings, said)
        elif drop:
            report = run.drop_unused(client, settings, said)
        elif partition is not None:
            report = in_place.rebuild(client, settings, partition, said)
        else:
            report = run.rebuild(client, settings, base, keep, said)
    if as_json:
        print_json(report)
