"""One partition of `freshet verify`: reads its log once, compares its people, adds up its sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flows.people.steps import reach
from flows.verify import basis, strangers
from flows.verify.people import PeopleCheck
from flows.verify.report import Findings
from flows.verify.waiting import PartitionWaits
from flows.verify.walk import Walk
from infra.garbage import rare_collection
from infra.log_reader import LogReader
from infra.settings import Settings
from infra.store import redis_client
from models.reference.partition import Partition
from models.reference.sample import Sample
from models.reference.sums import Landmarks, Sums
from models.reference.waiting import WaitingReference
from schemas.keys import Keyspace
from schemas.snapshots import Snapshot


class CheckTask(NamedTuple):
    """The check of one partition. `people`: how many to check; None is all. `cuts`: the offset of each
    version of the tables; without any, no sums are made. `marks`: the landmarks of the sums. `snapshot`:
    where to start; None is the log's beginning. `waiting`: what waits there."""

    settings: Settings
    log: LogReader
    partition: int
    keyspace: Keyspace
    people: int | None
    seed: int
    cuts: Sequence[int]
    marks: Landmarks
    snapshot: Snapshot | None = None
    waiting: WaitingReference | None = None

    @property
    def first(self) -> int:
        return self.snapshot.offsets[self.partition] if self.snapshot else 0


class Done(NamedTuple):
    """The result of a `CheckTask`. `both`: sums from its start to the first cut; `own`: for each cut, sums
    from the first cut to it; `waits`: for each cut, what waits there. `beyond`: cuts beyond the log's
    `end`; then there are no sums."""

    partition: int
    findings: Findings
    events: int
    checked: int
    both: Sums
    own: list[Sums]
    beyond: list[int]
    end: int
    waits: list[PartitionWaits]


def check_partition(task: CheckTask) -> Done:
    """Runs a task.

    Errors: `Shortened`, `OffTheLog`, `SnapshotError`, those of Redis, the log and the lake.
    """
    both, own = Sums(task.marks), [Sums(task.marks) for _ in task.cuts]
    with redis_client.connect(task.settings) as client, rare_collection():
        since = strangers.begun(client, task.keyspace, task.partition)
        walk, findings = walk_of(task, both if task.cuts else None, since), Findings()
        beyond = [cut for cut in task.cuts if cut > walk.end and cut > walk.refresh_end()]
        waits = [] if beyond else _add_up(walk, task.cuts, own)
        walk.reference.sums = None
        people = PeopleCheck(client, walk, task.keyspace, findings, task.settings)
        wanted = task.people is None or task.people > 0
        checked = people.check(whole=task.people is None) if wanted else 0
    return Done(task.partition, findings, walk.events, checked, both, own, beyond, walk.end, waits)


def walk_of(task: CheckTask, sums: Sums | None, since: int = 0) -> Walk:
    """A walk from the log's beginning or the snapshot. `since`: the offset from which on there may be
    strangers. Errors: `Shortened`, those of reading a snapshot."""
    window, before = task.settings.dedupe_ms, None
    if task.snapshot is not None:
        before = basis.before(task.settings, task.snapshot, task.partition)
    sample, reaches = Sample(task.people, task.seed), reach(task.settings)
    reference = Partition(
        window,
        sample,
        sums,
        before,
        reaches,
        task.waiting,
        task.settings.max_seen,
        task.settings.strangers,
        since,
    )
    walk = Walk(task.log, task.partition, reference, task.first)
    if walk.start > task.first:
        raise basis.shortened(task.partition, walk.start)
    return walk


def _add_up(walk: Walk, cuts: Sequence[int], own: Sequence[Sums]) -> list[PartitionWaits]:
    """Adds up the partition's facts up to each of at most two cuts, in ascending order. Returns what waits at
    each cut."""
    waits: dict[int, PartitionWaits] = {}
    order = sorted(range(len(cuts)), key=lambda n: cuts[n])
    for place, n in enumerate(order):
        walk.advance_to(cuts[n])
        waits[n] = PartitionWaits.of(walk.partition, walk.reference.waiting)
        # the next facts are beyond this cut, and before the further one
        further = order[place + 1 :]
        walk.reference.sums = own[further[0]] if further else None
    return [waits[n] for n in range(len(cuts))]
