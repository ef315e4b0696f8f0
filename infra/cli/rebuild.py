"""`freshet rebuild`: a new generation of what is made of `events`, from the log, and the swap to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra.cli.options import json_option, print_json, system_option
from infra.local.find import NothingRuns, find, folder

if TYPE_CHECKING:
    from infra.settings import Settings


@click.command("rebuild")
@click.option(
    "--from",
    "base",
    type=click.Choice(("snapshot", "beginning")),
    default="snapshot",
    show_default=True,
    help="Where to begin in the log. A changed feature needs the beginning.",
)
@click.option(
    "--partition",
    type=click.IntRange(0),
    help="Rebuild only the people of this partition, in the live generation.",
)
@click.option("--keep", is_flag=True, help="Keep the old generation, for --back.")
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
    """Compute people and tables in Redis again, from the log.

    The command fills a new generation of keys beside the live one, from the newest snapshot and the log
    after it, while the system runs. Once the new generation has caught up it becomes the live one, without
    a gap. The old one is deleted, except with --keep.

    \b
    freshet rebuild --keep             and to undo it: freshet rebuild --back
    freshet rebuild --from beginning   after a feature has changed
    freshet rebuild --partition 3      repair the people of one partition

    Where no system runs in the folder, its broker and Redis run for the command alone: so state that another
    version of Freshet made is made again before `freshet up`.
    """
    from rich.console import Console

    from flows.rebuild import generations, in_place
    from infra.apps.rebuild import run
    from infra.store import redis_client
    from infra.terminal.progress import Reporter, SilentReporter

    if sum((partition is not None, back, drop)) > 1:
        raise click.UsageError(
            "--partition, --back and --drop exclude each other: take one of them"
        )
    reporter = SilentReporter(Console()) if as_json else Reporter(Console())
    with (
        _settings(data_dir, reporter) as settings,
        generations.rebuild_lock(settings),
        redis_client.connect(settings) as client,
    ):
        if back:
            report = run.swap_back(client, settings, reporter)
        elif drop:
            report = run.drop_unused(client, settings, reporter)
        elif partition is not None:
            report = in_place.rebuild(client, settings, partition, reporter)
        else:
            report = run.rebuild(client, settings, base, keep, reporter)
    if as_json:
        print_json(report)


@contextlib.contextmanager
def _settings(data_dir: Path | None, report: Callable[[str], None]) -> Iterator[Settings]:
    """Of the running system; where none runs in the folder, of its broker and Redis, which are started."""
    from infra.local import at_rest
    from infra.local.home import prepare_folder

    try:
        settings = find(data_dir).settings
    except NothingRuns:
        if not at_rest.has_state(folder(data_dir)):
            raise
        with at_rest.services(folder(data_dir), report) as settings:
            yield settings
    else:
        prepare_folder(settings.data_dir, needed=False)
        yield settings
