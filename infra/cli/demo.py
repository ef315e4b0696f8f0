"""`freshet demo`: a click on real data changes the next recommendation; how much that is worth."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Final

import click

from infra.cli.options import folder_option

DEFAULT_FOLDER: Final = Path(".freshet/demo")


@click.command("demo")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of MovieLens files.  [default: $DATA, ./data, ./shared/data, ../shared/data]",
)
@click.option(
    "--sample", type=click.IntRange(1), default=2_000, show_default=True, help="Targets to predict."
)
@click.option(
    "--rate",
    type=click.FloatRange(1),
    default=500,
    show_default=True,
    help="Events a second of the replay.",
)
@click.option(
    "--population",
    type=click.IntRange(0, 9_999),
    default=300,
    show_default=True,
    help="Number of simulated people; 0 for none.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    default=60,
    show_default=True,
    help="How long the simulated people act.",
)
@click.option("--limit", type=click.IntRange(10), help="Take only so many ratings, the latest.")
@click.option(
    "--stay/--no-stay",
    default=None,
    help="Keep the system up afterwards.  [default: at a terminal]",
)
@folder_option("Folder for the report and for a new system.", DEFAULT_FOLDER, envvar=None)
def demo_command(
    data: Path | None,
    sample: int,
    rate: float,
    population: int,
    seconds: float,
    limit: int | None,
    stay: bool | None,
    data_dir: Path,
) -> None:
    """Watch a click change the next recommendation, on real data.

    The demo starts a new system, imports the first 80 % of MovieLens and trains a release on it. It sends
    the other ratings through the running system, and asks for recommendations just before 2,000 of the
    films that people liked next. It compares the hits with those of popularity, and with those of the same
    recommender with older state. Then simulated people, whose tastes are known, use it for a minute: half of
    them see popular items, half personal ones. All figures go to report.json.
    """
    from infra.apps.demo.run import run
    from infra.datasets.find import catalogue
    from infra.local.home import prepare_folder
    from infra.terminal.progress import Reporter
    from infra.terminal.text import console

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # tidy up first
    directory = prepare_folder(data_dir)
    run(
        catalogue(data, (data_dir.parent if data_dir == DEFAULT_FOLDER else data_dir) / "data"),
        directory,
        Reporter(console()),
        sample=sample,
        rate=rate,
        population=population,
        seconds=seconds,
        limit=limit,
        stay=sys.stdin.isatty() if stay is None else stay,
    )
