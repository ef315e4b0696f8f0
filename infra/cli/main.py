"""`freshet`: the composition root. Each group of commands is a file that is imported when it is called."""

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
    Command("demo", "infra.cli.demo", "Watch a click change the next recommendation, on real data"),
    Command(
        "import", "infra.cli.import_", "Load catalogues and history from files, only what is new"
    ),
    Command("train", "infra.cli.train", "Train a release on the log, evaluate it and serve it"),
    Command("evaluate", "infra.cli.evaluate", "Evaluate the product on any data, without a system"),
    Command("release", "infra.cli.release", "List, show, compare, promote and roll back releases"),
    Command(
        "snapshot", "infra.cli.snapshot", "Make, list and prune snapshots of the state, in the lake"
    ),
    Command(
        "rebuild", "infra.cli.rebuild", "Compute what Redis holds again, from the log, and swap"
    ),
    Command("verify", "infra.cli.verify", "Compare what Redis holds with what the log says"),
    Command(
        "dead-letters",
        "infra.cli.dead_letters",
        "List records that no flow could decode, and resend them",
    ),
    Command("cold", "infra.cli.cold", "Move the state of inactive people from Redis to the lake"),
    Command("status", "infra.cli.status", "Show the running system: processes, lag, tables"),
    Command("token", "infra.cli.token", "Make an access token for this installation"),
    Command("config", "infra.cli.config", "Show every setting: its value and where it comes from"),
    Command("lake", "infra.cli.lake", "Show, compact and sweep the lake"),
    Command("sql", "infra.cli.sql", "Query the lake in SQL"),
    Command("tail", "infra.cli.tail.command", "Watch the records of a topic"),
    Command("inspect", "infra.cli.inspect", "Show what is stored about a user, an item or a slate"),
    Command("topics", "infra.cli.dictionary", "List the topics: key, writers, readers, schema"),
    Command(
        "keys", "infra.cli.dictionary", "List the Redis keys: owner, readers, what rebuilds them"
    ),
    Command("serve", "infra.cli.run", "Run one serving worker"),
    Command("flows", "infra.cli.run", "Run one dataflow, or print what it would write"),
    Command("setup", "infra.cli.run", "Create the topics, and check Redis"),
    Command("bench", "infra.cli.bench", "Measure throughput, freshness and reads on this machine"),
)


class Freshet(click.Group):
    """Loads a command when it is called, and shows its errors as `infra.terminal.errors` does."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [command.name for command in COMMANDS if find_spec(command.module)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        for command in COMMANDS:
            if command.name == name and find_spec(command.module):
                module = importlib.import_module(command.module)
                loaded: click.Command = getattr(module, f"{name.replace('-', '_')}_command")
                return loaded
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
    freshet up                              run everything on this machine
    freshet import --movielens DIR          load items and events
    freshet tail events                     watch what people do
    freshet inspect user u1                 show what is stored about one of them

    A command talks to the system that runs in .freshet or in the folder of --data-dir. Where none runs
    there, KAFKA_BOOTSTRAP and REDIS_URL name one.
    """


def _version(context: click.Context) -> None:
    from infra.version import RELEASE

    click.echo(RELEASE)
    context.exit()


def main() -> None:
    """Exit status: 0 done, 1 failed, 2 called or set up wrongly."""
    # processes that it starts import no module from the folder where it is called
    os.environ["PYTHONSAFEPATH"] = "1"
    cli(prog_name="freshet")
