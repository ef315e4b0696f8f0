"""Everything that a read may be made of, switched on: a trained release, and an experiment."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Final

from infra.apps.bench.load import NotMeasured
from infra.kafka.changes import publish
from infra.local.plan import FRESHET, child_environment
from infra.local.system import System
from schemas.control import Experiment, Variant

SECONDS: Final = 300.0
_SETTLES: Final = 3.0
"""Until every worker has the release and the experiment: they look several times a second."""
# the same recipe under two names: what is measured is that people are assigned
SAME: Final = Experiment(
    placement="home",
    variants=(Variant(name="a", share=0.5), Variant(name="b", share=0.5, placement="home")),
)


def switch_on(system: System, say: Callable[[str], None]) -> None:
    """Errors: `NotMeasured`, `changes.NotTaken`."""
    began = time.monotonic()
    done = subprocess.run(
        [*FRESHET, "train"],
        env=child_environment(system.settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if done.returncode:
        raise NotMeasured(f"freshet train failed: {done.stderr.strip()[-300:]}")
    say(f"trained a release in {time.monotonic() - began:.0f} s: {done.stdout.strip()[-200:]}")
    publish(system.settings, "experiment", "bench", SAME)
    time.sleep(_SETTLES)
