"""The bench trains without a time limit, and shows its progress."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from infra.apps.bench.everything import train
from infra.apps.bench.load import NotMeasured

SLOW = """
import sys, time
from pathlib import Path
print("read the log: 100 of 200", flush=True)
while not Path(sys.argv[1]).exists():
    time.sleep(0.01)
print("release [1] serves", flush=True)
"""


def test_progress_is_shown_while_the_trainer_runs(tmp_path: Path) -> None:
    seen, go = list[str](), tmp_path / "go"

    def report(line: str) -> None:
        seen.append(line)
        go.touch()  # the trainer goes on once its first line was shown

    last = train([sys.executable, "-c", SLOW, str(go)], os.environ, report)
    assert seen[0] == "  train: read the log: 100 of 200"
    assert last == "release [1] serves"


def test_a_failed_training_is_a_sentence() -> None:
    command = [sys.executable, "-c", "raise SystemExit('freshet: the log holds nothing')"]
    with pytest.raises(NotMeasured, match="train failed: freshet: the log holds nothing"):
        train(command, os.environ, lambda line: None)
