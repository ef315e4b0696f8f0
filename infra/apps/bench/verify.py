"""Verify: the rate at which `freshet verify` compares a live system with its log."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from flows.verify.run import SAMPLED_PEOPLE, verify
from infra.apps.bench import audience
from infra.apps.bench.live import settle
from infra.apps.bench.load import NotMeasured
from infra.apps.bench.services import Announce
from infra.lake.log import open_log
from infra.local import system as supervise

EVENTS_COUNT: Final = 220_000


class Verified(NamedTuple):
    events_per_s: float
    events: int
    fields: int


def measure(
    folder: Path, repeats: int, announce: Announce = lambda line: None, count: int = EVENTS_COUNT
) -> list[Verified]:
    """Verifies a whole system that has folded `count` events, with another sample in each run.

    Errors: `NotMeasured`, also where a process ended or a value differs from the log.
    """
    runs = []
    with supervise.running(folder) as system:
        announce(f"verify: writing {count:,} events")
        audience.write(system.settings, count)
        settle(system)
        for seed in range(repeats):
            report = verify(
                system.settings, open_log(system.settings), people=SAMPLED_PEOPLE, seed=seed
            )
            if report.mismatches:
                raise NotMeasured(
                    f"verify: {len(report.mismatches)} values are not as the log says"
                )
            runs.append(Verified(report.rate, report.events, report.fields_checked))
            announce(f"verify {seed + 1} of {repeats}: {report.rate:,.0f} events/s")
        restarted = [it.name for it in system.state().processes if it.restarts]
    if restarted:
        raise NotMeasured(f"{', '.join(restarted)} ended and was restarted: the figures are void")
    return runs
