"""Without the kernel: the laws hold, and a state passes from numpy to the kernel and back."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from flows.people.fold import PeopleFold
from models.kernels.loading import OFF, VARIABLE, kernel, missing
from models.release.person import Encoder
from schemas import events
from schemas.keys import PLAIN
from schemas.state.fences import Fence
from tests.laws.test_vector_laws import space
from tests.laws.world import DAY, T0, Memory, Record, action, assigned, log_of, served, write_of
from tests.unit.test_house import ROOT

LAWS: Final = (
    "test_fold_laws",
    "test_joint_laws",
    "test_link_laws",
    "test_outcome_laws",
    "test_stranger_laws",
    "test_vector_laws",
)
NAMES: Final = ("view", "click", "like", "unlike", "hide", "purchase", "rate", "cart", "display")


def traffic(n: int) -> list[Record]:
    """Actions and slates of thirty people: some late, some sent twice, some of a slate, some taken back."""
    rnd, made = random.Random(3), list[events.Event]()
    for i in range(n):
        who, item, at = min(30, int(rnd.paretovariate(0.6))), f"i{rnd.randrange(40)}", T0 + i * 1000
        if rnd.random() < 0.2:
            items = [f"i{rnd.randrange(40)}" for _ in range(5)]
            made.append(served(f"s{i}", items, who, at, experiments=(assigned(),)))
        elif made and rnd.random() < 0.1:
            made.append(rnd.choice(made))
        else:
            more = {"amount": 99, "currency": "EUR", "negative": rnd.random() < 0.3}
            what = rnd.choice(NAMES)
            made.append(
                action(
                    i,
                    who,
                    item,
                    what,
                    at=at - rnd.choice([0, 0, 90_000, 8 * DAY]),
                    session_id=f"v{i // 50}",
                    slate_id=f"s{rnd.randrange(max(1, i - 60), i + 1)}"
                    if rnd.random() < 0.5
                    else "",
                    **(more if what == "purchase" else {}),
                )
            )
    return log_of(made)


def fold(memory: Memory, fence: Fence, log: list[Record]) -> Fence:
    """Folds the log in batches of 40, by a new worker."""
    people = PeopleFold({0: fence}, memory.fetch, DAY, 10, PLAIN)
    people.remember_received(0, memory.hashes.get(PLAIN.received(0), {}))
    people.remember_tallies(0, memory.hashes.get(PLAIN.tallies(0), {}))
    people.encoder = Encoder("r1", space(30))
    for at in range(0, len(log), 40):
        memory.perform(write_of(people, log[at : at + 40]))
    return people.fence(0)


def fold_stored(path: Path, start: int, stop: int) -> None:
    """Folds records `start` to `stop` into the state in the file `path`."""
    memory, fence = pickle.loads(path.read_bytes())
    fence = fold(memory, fence, traffic(stop)[start:])
    path.write_bytes(pickle.dumps((memory, fence)))


def without_kernel(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={"EXAMPLES": "few", **os.environ, VARIABLE: OFF},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.check
@pytest.mark.skipif(kernel is None, reason=missing)
def test_a_state_passes_from_numpy_to_the_kernel_and_back(tmp_path: Path) -> None:
    path, first, n = tmp_path / "state", Fence("t", 4, 0, 0, 1), 1_200
    path.write_bytes(pickle.dumps((Memory(), first)))
    for start in range(0, n, 400):
        code = "from pathlib import Path; from tests.unit.models.kernels.test_numpy import fold_stored; "
        without_kernel("-c", f"{code}fold_stored(Path({str(path)!r}), {start}, {start + 200})")
        fold_stored(path, start + 200, start + 400)
    alternated, _ = pickle.loads(path.read_bytes())
    alone = Memory()
    fence = first
    for start in range(0, n, 200):
        fence = fold(alone, fence, traffic(start + 200)[start:])
    assert alternated.state() == alone.state()
    assert alternated.streams == alone.streams


@pytest.mark.check
@pytest.mark.timeout(300)
def test_the_laws_hold_without_the_kernel() -> None:
    words = ("-m", "pytest", "-q", "-n", "0", "-x", "-m", "not check", "-p", "no:cacheprovider")
    without_kernel(*words, *(f"tests/laws/{it}.py" for it in LAWS))
