"""A run of 45 s that goes through every kind of fault: nothing is lost, doubled or wrong, and the system
comes back by itself after each. With ALL=1 three runs, which share the faults and have more time for each.

Each is the command in a process of its own: the clients of a broker that is killed leave threads and
sockets behind, which later tests would have to live with.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.signals import die_with_parent
from tests.chaos.run import Options
from tests.chaos.schedule import KINDS, SHARE, SHORT_SLOT_SECONDS, SLOT_SECONDS, schedule
from tests.support.whole import WHOLE

pytestmark = [pytest.mark.check, pytest.mark.timeout(420)]
SEEDS, SLOT = (range(SHARE), SLOT_SECONDS) if WHOLE else (range(1), SHORT_SLOT_SECONDS)
# slow enough for two cores that other tests were on a moment ago: `make chaos` asks for more
RATE = 500


def test_the_seeds_cover_every_kind_of_fault() -> None:
    met = {fault.kind for seed in SEEDS for fault in schedule(seed, Options().seconds, SLOT)}
    assert met == set(KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_doubled_or_wrong(seed: int, tmp_path: Path) -> None:
    command = ["-m", "tests.chaos", "--seed", str(seed), "--rate", str(RATE)]
    command += ["--slot", str(SLOT)]
    done = subprocess.run(
        [sys.executable, *command, "--directory", str(tmp_path)],
        capture_output=True,
        text=True,
        preexec_fn=die_with_parent(),
    )
    output = done.stdout + done.stderr
    (made,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert (made["lost"], made["doubled"], made["wrong_fields"]) == (0, 0, 0), output
    assert done.returncode == 0, output
    assert made["acknowledged"] > 0
    assert made["dead_letters"] > 0
