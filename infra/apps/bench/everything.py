"""Everything that a read can use, switched on: a trained release and an experiment."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rich.markup import escape

from infra.apps.bench.load import NotMeasured
from infra.kafka.changes import current, publish, serve
from infra.local.plan import FRESHET, child_environment
from infra.local.system import System
from infra.signals import die_with_parent
from schemas.control import Experiment, Variant, release_order

_SETTLE_SECONDS: Final = 3.0
"""Time for every worker to load release and experiment; workers poll several times a second."""
# the same recipe under two names: the assignment of people is what is measured
AA_EXPERIMENT: Final = Experiment(
    placement="home",
    variants=(Variant(name="a", share=0.5), Variant(name="b", share=0.5, placement="home")),
)


def switch_on(
    system: System,
    announce: Callable[[str], None],
    trainer: Sequence[str] = (*FRESHET, "train"),
) -> None:
    """`trainer`: the command that trains. Errors: `NotMeasured`, `changes.ChangeNotApplied`."""
    began = time.monotonic()
    last_line = train(trainer, child_environment(system.settings), announce)
    announce(f"trained a release in {time.monotonic() - began:.0f} s: {last_line}")
    if not current(system.settings):  # it was kept: the bench measures with it all the same
        names = [path.name for path in system.settings.releases.glob("[0-9]*.*")]
        serve(system.settings, max(names, key=release_order))
    publish(system.settings, "experiment", "bench", AA_EXPERIMENT)
    time.sleep(_SETTLE_SECONDS)


def train(
    command: Sequence[str], environment: Mapping[str, str], announce: Callable[[str], None]
) -> str:
    """Runs `command`, passes its lines to `announce`, and returns the last one. Errors: `NotMeasured`."""
    last = ""
    with subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=die_with_parent(),
    ) as running:
        assert running.stdout
        try:
            for line in filter(None, map(str.strip, running.stdout)):
                last = line[-300:]
                announce(escape(f"  train: {last}"))
        except BaseException:
            running.kill()
            raise
    if running.returncode:
        raise NotMeasured(f"freshet train failed: {last}")
    return escape(last)
