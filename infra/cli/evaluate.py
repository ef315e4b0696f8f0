"""`freshet evaluate`: how well the product would have recommended, on any data, without a running system."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from infra.apps.evaluate.protocols.plan import MAX_TARGETS, PROTOCOLS, SEEN, Protocol, Seen
from infra.cli.options import folder_option, json_option, print_json

MAX_SEED: Final = 2**32 - 1


def _seeds(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    texts = text.split(",") if text is not None else []
    if not all(it.isascii() and it.isdigit() and int(it) <= MAX_SEED for it in texts):
        raise click.BadParameter("write whole numbers with commas between them, such as 1,2,3")
    return tuple(dict.fromkeys(int(it) for it in texts))


@click.command("evaluate")
@click.option(
    "--data",
    required=True,
    metavar="NAME|DIR|FILE|LAKE",
    help="A data set, or the lake of a system.",
)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    default=PROTOCOLS[0],
    show_default=True,
    help="What is held out.",
)
@click.option("--delay", metavar="60s|1event|1basket", help="State is so late, in every arm.")
@click.option(
    "--split",
    type=float,
    metavar="SHARE",
    help="Share of the acts that is history.  [default: 0.8; of baskets 0.9]",
)
@click.option(
    "--seen",
    type=click.Choice(SEEN),
    default=SEEN[0],
    show_default=True,
    help="Whether items that a person had may be shown again.",
)
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help="Of draws."
)
@click.option("--seeds", callback=_seeds, metavar="1,2,3", help="Evaluate by each of them too.")
@click.option(
    "--targets",
    type=click.IntRange(0),
    default=MAX_TARGETS,
    show_default=True,
    help="Choices to find, drawn by the seed; 0: all.",
)
@click.option("--layout", default="", help="Layout of the data, where it fits two.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the result and the report.  [default: evaluate in the data folder]",
)
@folder_option("Folder of the system, where results are kept.")
@json_option
def evaluate_command(
    data: str,
    protocol: Protocol,
    delay: str | None,
    split: float | None,
    seen: Seen,
    seed: int,
    seeds: tuple[int, ...],
    targets: int,
    layout: str,
    out: Path | None,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Evaluate the product on data: what would it have recommended?

    It trains a release on the history of the data, by the product's own trainer and gate. It replays the
    choices after it, and compares what serves with each single source, with popularity and with a random
    order. It takes no running system. The result and a report in HTML are written to files.

    \b
    freshet evaluate --data ml-latest-small
    freshet evaluate --data clicks.csv --delay 60s --json
    freshet evaluate --data Beauty.txt --protocol leave-one-out --seen kept
    freshet evaluate --data .freshet/lake
    """
    from infra.apps.evaluate.program import Request, run
    from infra.terminal.progress import Reporter
    from infra.terminal.text import console

    reporter = Reporter(console(stderr=True))
    request = Request(data, layout, protocol, delay, split, seen, seed, seeds, targets)
    result, table = run(request, out, data_dir, reporter)
    if as_json:
        print_json(result)
    else:
        console().print(table)
