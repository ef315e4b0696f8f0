"""`python -m tests.chaos`: seeded runs of a whole system under faults. `make chaos RUNS=n`."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from infra.local import home
from infra.local.find import DEFAULT_DIR
from tests.chaos.report import Run, table, write
from tests.chaos.run import Options, run
from tests.chaos.schedule import SLOT_SECONDS
from tests.chaos.world import BROKERS


def main() -> int:
    """Exit status 1 where anything was lost, doubled or wrong, or a recovery was not reached."""
    arguments = _arguments()
    first = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    if arguments.directory.parent == DEFAULT_DIR:
        home.prepare_folder(DEFAULT_DIR)
    directory: Path = arguments.directory.resolve()
    options = Options(arguments.seconds, arguments.rate, arguments.broker, arguments.slot)
    runs: list[Run] = []
    for seed in range(first, first + arguments.runs):
        made = run(seed, directory / str(seed), options, lambda line: print(line, flush=True))
        runs.append(made)
        write(directory / "report.json", runs)
        if not made.passed:
            print(f"  FAILED {made.failure} {made.wrong} {made.examples}\n  kept: {made.logs}")
    print(table(runs))
    print(f"report: {directory / 'report.json'}")
    return 0 if all(made.passed for made in runs) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=45.0, help="of traffic, each run")
    parser.add_argument("--slot", type=float, default=SLOT_SECONDS, help="from fault to fault, s")
    parser.add_argument("--rate", type=float, default=2000.0, help="events a second")
    parser.add_argument("--seed", type=int, help="of the first run  [default: any]")
    parser.add_argument("--broker", choices=tuple(BROKERS), default="embedded")
    parser.add_argument("--directory", type=Path, default=Path(".freshet/chaos"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
