"""`freshet train`: train a release on the log, and serve it."""

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
    help="Train on the log before WHEN: a time (RFC 3339), or offsets (10.0.7.2).",
)
@click.option(
    "--publish/--no-publish",
    default=True,
    show_default=True,
    help="Write the release, and register it in the topic control.",
)
@click.option(
    "--activate/--no-activate",
    default=True,
    show_default=True,
    help="Serve the release from now on.",
)
@json_option
def train_command(
    data_dir: Path | None, until: str, publish: bool, activate: bool, as_json: bool
) -> None:
    """Train a release on the log, evaluate it, and serve it.

    A release has item vectors, in which interactions and content share one space, the weights of the coarse
    score, and a ranker. It is compared with every source alone, with the built-in recipes and with the
    release that serves, on choices held out of the end of the log. Where these do not show that nothing is
    better, it is kept and does not serve: the verdict says why, and how many choices would decide.

    \b
    freshet train
    freshet train --no-publish            evaluate only
    freshet train --until 2026-11-23T00:00:00Z
    freshet train --no-activate           later: freshet release promote ID
    """
    from infra.local.home import prepare_folder
    from infra.terminal.progress import Reporter
    from infra.terminal.text import console

    settings = find(data_dir).settings
    if publish:
        prepare_folder(settings.data_dir, needed=False)
    reporter = Reporter(console(stderr=as_json))
    made, release = train(settings, reporter, until=until, publish=publish, activate=activate)
    if as_json:
        print_json({"release": release, "seconds": made.seconds["train"], **made.metrics})
