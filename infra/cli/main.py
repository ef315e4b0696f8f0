"""`freshet`: the composition root. One file per group of commands, imported when asked for."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec
from typing import Final, NamedTuple

import click

from infra.terminal.errors import in_one_line

# before numpy is imported by anything: many processes share the cores
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


class Command(NamedTuple):
    name: str
    module: str
    help: str


COMMANDS: Final = (
    Command("up", "infra.cli.up", "Run everything on this machine"),
    Command("demo", "infra.cli.demo", "See a click change the next recommendation, on real data"),
    Command(
        "import", "infra.cli.import_", "Load history: MovieLens, or items and events as NDJSON"
    ),
    Command("train", "infra.cli.train", "Learn a release from the log, judge it, let it serve"),
    Command("release", "infra.cli.release", "Which releases there are, which serves; going back"),
    Command("snapshot", "infra.cli.snapshot", "What folding the log leaves, kept in the lake"),
    Command("rebuild", "infra.cli.rebuild", "Make what Redis holds again, from the log"),
    Command("verify", "infra.cli.verify", "Compare what Redis holds with what the log says"),
    Command(
        "dead-letters", "infra.cli.dead_letters", "What no fold could take; sending it once more"
    ),
    Command("cold", "infra.cli.cold", "People not seen for long, from Redis to the lake"),
    Command("status", "infra.cli.status", "How the running system does: processes, lag, tables"),
    Command("config", "infra.cli.config", "Every setting: what is in force, where it comes from"),
    Command("lake", "infra.cli.lake", "What the lake holds; compacting and sweeping it"),
    Command("sql", "infra.cli.sql", "Ask the lake in SQL"),
    Command("tail", "infra.cli.tail", "Watch a topic"),
    Command("inspect", "infra.cli.inspect", "What is held of a user, an item, a slate"),
    Command("topics", "infra.cli.dictionary", "Every topic: key, writers, readers, schema"),
    Command("keys", "infra.cli.dictionary", "Every Redis key: owner, readers, what rebuilds it"),
    Command("serve", "infra.cli.run", "One serving worker"),
    Command("flows", "infra.cli.run", "Run one dataflow, or show what it would write"),
    Command("setup", "infra.cli.run", "Create the topics and check Redis"),
    Command("bench", "infra.cli.bench", "Measure the loop on this machine"),
)


class Freshet(click.Group):
    """Loads a command when it is called, and shows its errors as `infra.terminal.errors` does."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [command.name for command in COMMANDS if find_spec(command.module)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        for command in COMMANDS:
            if command.name == name and find_spec(command.module):
                module = importlib.import_module(command.module)
                found: click.Command = getattr(module, f"{name.replace('-', '_')}_command")
                return found
        return None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(it.name, it.help) for it in COMMANDS if find_spec(it.module)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, context: click.Context) -> object:
        with in_one_line():
            try:
                return super().invoke(context)
            except BrokenPipeError:  # `| head` has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise click.exceptions.Exit(0) from None


@click.group(cls=Freshet, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda context, option, value: _version(context) if value else None,
    help="Print the version.",
)
def cli() -> None:
    """Freshet: every click changes the next recommendation.

    \b
    freshet up                              run everything, here
    freshet import --movielens DIR          give it something to recommend
    freshet tail events                     watch what people do
    freshet inspect user u1                 see what it knows of one of them

    Commands find the system that runs in .freshet, or in the folder that --data-dir names, or by
    KAFKA_BOOTSTRAP and REDIS_URL.
    """


def _version(context: click.Context) -> None:
    from importlib.metadata import PackageNotFoundError, version

    from infra.version import DISTRIBUTION

    try:
        click.echo(version(DISTRIBUTION))
    except PackageNotFoundError:
        click.echo("not installed: run from its sources")
    context.exit()


def main() -> None:
    """Exit status: 0; 1 it failed; 2 it was called or set up wrongly."""
    # what it starts takes no module out of the folder where it is called
    os.environ["PYTHONSAFEPATH"] = "1"
    cli(prog_name="freshet")
