"""One partition of `freshet verify`: its log gone through once, its people compared, its sums added up."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from flows.verify import basis
from flows.verify.people import PeopleCheck
from flows.verify.report import Findings
from flows.verify.walk import Walk
from infra.log_reader import LogReader
from infra.settings import Settings
from infra.store import redis_client
from models.reference.partition import Partition
from models.reference.sample import Sample
from models.reference.sums import Marks, Sums
from schemas.keys import Keyspace
from schemas.snapshots import Snapshot


class CheckTask(NamedTuple):
    """`people`: how many are checked, None everybody. `cuts`: where each version of the tables stands in
    this partition; of none, nothing is added up. `marks`: what sums are told against. `snapshot`: where
    to begin; None is the log's beginning."""

    settings: Settings
    log: LogReader
    partition: int
    keyspace: Keyspace
    people: int | None
    seed: int
    cuts: Sequence[int]
    marks: Marks
    snapshot: Snapshot | None = None

    @property
    def first(self) -> int:
        return self.snapshot.offsets[self.partition] if self.snapshot else 0


class Done(NamedTuple):
    """`both`: sums from where it began to the first cut; `own`: of each, from there to it. `beyond`: cuts
    that lie beyond the log's end, which `end` is; there are no sums then."""

    partition: int
    found: Findings
    events: int
    checked: int
    both: Sums
    own: list[Sums]
    beyond: list[int]
    end: int


def go_through(task: CheckTask) -> Done:
    """Errors: `Shortened`, `OffTheLog`, `SnapshotError`, those of Redis, the log and the lake."""
    both, own = Sums(task.marks), [Sums(task.marks) for _ in task.cuts]
    with redis_client.connect(task.settings) as client, _seldom_collected():
        walk, found = walk_of(task, both if task.cuts else None), Findings()
        beyond = [cut for cut in task.cuts if cut > walk.end and cut > walk.refresh_end()]
        if not beyond:
            _add_up(walk, task.cuts, own)
        walk.reference.sums = None
        people = PeopleCheck(client, walk, task.keyspace, found, task.settings)
        wanted = task.people is None or task.people > 0
        checked = people.check(whole=task.people is None) if wanted else 0
    return Done(task.partition, found, walk.events, checked, both, own, beyond, walk.end)


def walk_of(task: CheckTask, sums: Sums | None) -> Walk:
    """From the log's beginning, or from the snapshot. Errors: `Shortened`, those of reading a snapshot."""
    window, before = task.settings.dedupe_ms, None
    if task.snapshot is not None:
        before = basis.before(task.settings, task.snapshot, task.partition)
    reference = Partition(window, Sample(task.people, task.seed), sums, before)
    walk = Walk(task.log, task.partition, reference, task.first)
    if walk.start > task.first:
        raise basis.shortened(task.partition, walk.start)
    return walk


def _add_up(walk: Walk, cuts: Sequence[int], own: Sequence[Sums]) -> None:
    """A partition's facts, up to each of at most two cuts in turn."""
    order = sorted(range(len(cuts)), key=lambda n: cuts[n])
    for place, n in enumerate(order):
        walk.advance_to(cuts[n])
        # what comes now is beyond this one, and within the one that stands further
        further = order[place + 1 :]
        walk.reference.sums = own[further[0]] if further else None


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """What is made here lives until the end: looking for garbage again and again costs a tenth."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
