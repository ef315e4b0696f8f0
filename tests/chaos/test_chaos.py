"""Three runs of 45 s that go through every kind of fault: nothing is lost, doubled or wrong, and the
system comes back by itself after each."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.report import table
from tests.chaos.run import Options, run
from tests.chaos.schedule import KINDS, SHARE, schedule

pytestmark = [
    pytest.mark.check,
    pytest.mark.timeout(420),
    # kafka-python leaves a socket open when a broker is killed while it connects
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
SEEDS = range(SHARE)
# slow enough for two cores that other tests were on a moment ago: `make chaos` asks for more
OPTIONS = Options(rate=500)


def test_the_seeds_cover_every_kind_of_fault() -> None:
    met = {fault.kind for seed in SEEDS for fault in schedule(seed, OPTIONS.seconds)}
    assert met == set(KINDS)


@pytest.fixture
def _nothing_left_to_others() -> Iterator[None]:
    """What kafka-python left is collected here, where it is expected, and not in some later test."""
    yield
    gc.collect()


@pytest.mark.usefixtures("_nothing_left_to_others")
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_doubled_or_wrong(seed: int, tmp_path: Path) -> None:
    made = run(seed, tmp_path / "run", OPTIONS, print)
    print(table([made]))
    told = (made.failure, made.wrong, made.examples, made.logs)
    assert (made.lost, made.doubled, made.wrong_fields) == (0, 0, 0), told
    assert made.passed, told
    assert made.acknowledged > 0
    assert made.dead_letters > 0
