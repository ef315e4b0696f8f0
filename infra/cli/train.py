"""`freshet train`: from the log to a release that serves."""

from __future__ import annotations

from pathlib import Path

import click

from infra.apps.train.publish import train
from infra.cli.options import json_option, print_json, system_option
from infra.local.find import find


@click.command("train")
@system_option
@click.option(
    "--until",
    default="",
    metavar="WHEN",
    help="Of the log only what is before: a time, or offsets.",
)
@click.option(
    "--publish/--no-publish", default=True, show_default=True, help="Write it, and tell control."
)
@click.option(
    "--activate/--no-activate", default=True, show_default=True, help="Let it serve from now on."
)
@json_option
def train_command(
    data_dir: Path | None, until: str, publish: bool, activate: bool, as_json: bool
) -> None:
    """Learn a release from the log, judge it, and let it serve.

    Item vectors in which interactions and content share one space, the weights of the coarse score,
    and a ranker. Whatever is below what it would replace, on choices held out of the end of the log,
    is not released: the release says so, and is made of the rest.

    \b
    freshet train
    freshet train --no-publish            how good would it be?
    freshet train --until 2026-11-23T00:00:00Z
    freshet train --no-activate           then: freshet release activate ID
    """
    from infra.local.home import prepare_folder
    from infra.terminal.progress import Reporter
    from infra.terminal.text import console

    settings = find(data_dir).settings
    if publish:
        prepare_folder(settings.data_dir, needed=False)
    say = Reporter(console(stderr=as_json))
    made, release = train(settings, say, until=until, publish=publish, activate=activate)
    if as_json:
        print_json({"release": release, "seconds": made.seconds["train"], **made.metrics})
