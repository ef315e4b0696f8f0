"""`freshet verify` of a log whose beginning is gone resumes from a snapshot and finds each fault."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner
from kafka import TopicPartition

from flows.snapshots import make, read
from flows.verify.basis import Behind, Shortened
from flows.verify.run import Report, verify
from infra.cli.main import cli
from infra.kafka import kafka_client
from infra.kafka.reader import Topics
from infra.local import services
from infra.log_reader import Batch
from infra.settings import Settings, to_environment
from infra.store import redis_client
from schemas import events
from schemas.keys import PLAIN
from schemas.snapshots import Snapshot
from schemas.state import fences
from schemas.topics import EVENTS
from tests.flows.faults import Flow, behind, produce, wait
from tests.integration.operate.test_verify import (
    FLOWS,
    PEOPLE,
    PUBLISHED,
    Break,
    Sum,
    broken_base,
    changed,
    made,
    one_key,
    unsent_outboxes,
)
from tests.support.recorded import Recorded

pytestmark = [pytest.mark.check, pytest.mark.timeout(120)]
GONE: Final = 50
"""Records before the snapshot that the log still holds."""


class Later:
    """A log that begins at `starts` or later."""

    def __init__(self, log: Recorded, starts: list[int]) -> None:
        self._log, self._starts = log, starts

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        start, end = self._log.bounds(topic, partition)
        return max(start, self._starts[partition]), end

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        assert start >= self._starts[partition]
        return self._log.read(topic, partition, start, end, size)


class World(NamedTuple):
    """A folded log whose flows have stopped. `whole`: verify's report before the log was shortened."""

    settings: Settings
    client: Any
    log: Recorded
    early: Snapshot
    snapshot: Snapshot
    whole: Report
    touched: set[str]
    """People with records after the snapshot."""

    @property
    def end_offsets(self) -> list[int]:
        return [self.log.bounds(EVENTS.name, p)[1] for p in range(self.settings.partitions)]

    def verify(self, **more: Any) -> Report:
        return verify(self.settings, self.log, **more)

    def keys(self, pattern: bytes, *, touched: bool) -> list[bytes]:
        """The keys of such people, the longest first."""
        found = [
            key
            for key in self.client.scan_iter(match=pattern, count=1000)
            if (key[-32:].decode() in self.touched) is touched
        ]
        return sorted(found, key=lambda key: (-self.client.strlen(key), key))

    def changed(self, broken: Break, *, touched: bool) -> tuple[bytes, bytes, bytes]:
        """Key, value and changed value, of a person who has the field to change."""
        for key in self.keys(broken.key, touched=touched):
            held = self.client.get(key)
            try:
                return key, held, broken.how(held)
            except IndexError:
                continue
        raise LookupError(f"no person has {broken.what}")


@pytest.fixture(scope="module")
def world(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two snapshots, and events after them; then the log is shortened to just before the second one."""
    settings = Settings(
        redis_url=redis_url,
        kafka_bootstrap=broker,
        data_dir=tmp_path_factory.mktemp("shortened"),
        rollup_seconds=0.1,
        base_seconds=0.3,
        dedupe_hours=0.5,
        port=services.free_port(),
    )
    kafka_client.ensure_topics(settings)
    flows = [Flow(settings, name, settings.data_dir / "flows.log") for name in FLOWS]
    later = made(8)
    half = len(later) // 2
    try:
        with redis_client.connect(settings) as client:
            send(settings, client, made(7))
            early = snapshot(settings)
            send(settings, client, later[:half])
            second = snapshot(settings)
            # some records come again, and only the snapshot holds their ids
            send(settings, client, [*later[half:], *later[:half:9]])
            for flow in flows:
                flow.kill()
            whole = verify(settings, Topics(settings))
            shorten(settings, [offset - GONE for offset in second.offsets])
            log = Recorded(Topics(settings), EVENTS.name, settings.partitions)
            yield World(settings, client, log, early, second, whole, people_of(log, second.offsets))
    finally:
        for flow in flows:
            flow.kill()


def send(settings: Settings, client: Any, sent: list[events.Event]) -> None:
    produce(settings, sent, random.Random(len(sent)), lambda n: None)
    wait(lambda: behind(settings, client) or unsent_outboxes(client), lambda: None)


def snapshot(settings: Settings) -> Snapshot:
    log = Topics(settings)
    until = [log.bounds(EVENTS.name, p)[1] for p in range(settings.partitions)]
    return make.make(settings, log, until, read.latest(settings))


def shorten(settings: Settings, starts: list[int]) -> None:
    admin = kafka_client.admin(settings)
    try:
        admin.delete_records({TopicPartition(EVENTS.name, p): at for p, at in enumerate(starts)})
    finally:
        admin.close()


def people_of(log: Recorded, starts: list[int]) -> set[str]:
    people: set[str] = set()
    for p, start in enumerate(starts):
        for batch in log.read(EVENTS.name, p, start, log.bounds(EVENTS.name, p)[1]):
            people |= {key.decode() for key in batch.keys if key and len(key) == 32}
    return people


def test_verify_from_a_snapshot_checks_everything_and_finds_nothing_wrong(world: World) -> None:
    bounds = [world.log.bounds(EVENTS.name, p) for p in range(4)]
    assert [start for start, _ in bounds] == [it - GONE for it in world.snapshot.offsets]
    reached = zip(world.early.offsets, bounds, strict=True)
    assert any(offset < start for offset, (start, _) in reached), "it is of no use any more"
    assert (world.whole.mismatches, world.whole.snapshot) == ([], "")
    report = world.verify()
    assert report.mismatches == []
    assert report.snapshot == world.snapshot.id
    assert report.start == dict(enumerate(world.snapshot.offsets))
    assert report.events == sum(end for _, end in bounds) - sum(world.snapshot.offsets) > 500
    assert report.people_checked == world.whole.people_checked > 100
    assert report.fields_checked == world.whole.fields_checked


def test_a_sample_holds_people_who_did_nothing_since(world: World) -> None:
    one, again, other = (world.verify(people=40, seed=seed, sums=False) for seed in (1, 1, 2))
    assert one.people_checked == 40
    assert one.fields_checked == again.fields_checked != other.fields_checked
    assert one.mismatches == other.mismatches == []
    everyone = {key[-32:].decode() for key in world.client.scan_iter(match=b"u:{*}:*", count=1000)}
    assert len(everyone - world.touched) > len(everyone) // 4


# -- break one value ------------------------------------------------------------------------


def of_people() -> Iterator[Any]:
    taken = set()
    for it in PEOPLE:
        if it.what != "ids" and (it.what, it.field) not in taken:
            taken.add((it.what, it.field))
            for touched in (True, False):
                whose = "touched" if touched else "untouched"
                yield pytest.param(it, touched, id=f"{it.what} {it.field} {whose}")


@pytest.mark.parametrize(("broken", "touched"), list(of_people()))
def test_a_value_of_a_person_that_was_changed_is_found(
    world: World, broken: Break, touched: bool
) -> None:
    key, held, value = world.changed(broken, touched=touched)
    world.client.set(key, value)
    try:
        (found,) = world.verify(sums=False).mismatches
    finally:
        world.client.set(key, held)
    assert (found.what, found.key) == (broken.what, key.decode())
    assert found.field.startswith(broken.field)
    assert found.stored != found.expected


def test_an_id_that_was_forgotten_is_found(world: World) -> None:
    key = one_key(world.client, b"dd:{*}:*")
    held = world.client.get(key)
    world.client.set(key, held[8:])  # the oldest: only the snapshot holds it
    try:
        (found,) = world.verify(sums=False).mismatches
    finally:
        world.client.set(key, held)
    assert (found.what, found.key) == ("ids", key.decode())


def test_a_key_of_no_person_and_a_missing_one_are_found(world: World) -> None:
    client, needless = world.client, PLAIN.row(1, "ab" * 16)
    gone, *_ = world.keys(b"u:{*}:*", touched=False)
    held = client.get(gone)
    client.set(needless, held)
    client.delete(gone)
    try:
        found = world.verify(sums=False).mismatches
    finally:
        client.delete(needless)
        client.set(gone, held)
    assert {(it.what, it.key, it.stored) for it in found} == {
        ("key", needless.decode(), "is there"),
        ("row", gone.decode(), None),
    }


@pytest.mark.parametrize("broken", PUBLISHED, ids=lambda it: f"{it.what} {it.field}")
def test_a_published_sum_that_was_changed_is_found(world: World, broken: Sum) -> None:
    with changed(world.client, broken):
        found = world.verify(people=0).mismatches
    assert {it.key for it in found} == {broken.key.decode()}
    assert any(broken.field in it.field for it in found)


def test_a_sum_of_the_stored_base_that_was_changed_is_found(world: World) -> None:
    client, names = world.client, PLAIN.tables()
    head = client.get(names.base)
    changed = broken_base(b"".join(client.mget(names.base_chunks(head))))
    client.set(names.base_chunk(b"broken", 0), changed)
    client.set(names.base, b"broken:1")
    try:
        found = world.verify(people=0).mismatches
    finally:
        client.delete(names.base_chunk(b"broken", 0))
        client.set(names.base, head)
    assert sorted(it.what for it in found) == ["arms", "experiments", "pairs", "popularity"]


# -- which snapshot -------------------------------------------------------------------------


def test_the_newest_snapshot_that_redis_has_reached_is_taken(world: World) -> None:
    base = make.make(world.settings, world.log, world.end_offsets, world.snapshot)
    try:
        report = world.verify()
        assert (report.snapshot, report.events, report.mismatches) == (base.id, 0, [])
        with fence_at(world, 2, world.snapshot.offsets[2] + 1):
            report = world.verify(people=1, sums=False)
        assert report.snapshot == world.snapshot.id
    finally:
        read.remove(world.settings, base.id)


def test_redis_older_than_every_snapshot_is_behind(world: World) -> None:
    with (
        fence_at(world, 2, world.snapshot.offsets[2] - 1),
        pytest.raises(Behind, match=f"has not reached snapshot {world.snapshot.id}"),
    ):
        world.verify()


def test_redis_older_than_the_log_is_a_mismatch(world: World) -> None:
    with fence_at(world, 2, world.snapshot.offsets[2] - GONE - 1):
        (found,) = world.verify().mismatches
    assert (found.what, found.stored) == ("fence", "is before the first record of the log")


@contextmanager
def fence_at(world: World, partition: int, offset: int) -> Iterator[None]:
    key = PLAIN.fence("people", partition)
    held = world.client.get(key)
    fence = msgspec.structs.replace(fences.decode(held), offset=offset)
    world.client.set(key, fences.encode(fence))
    try:
        yield
    finally:
        world.client.set(key, held)


def test_a_log_that_reaches_back_to_no_snapshot_is_refused(world: World, tmp_path: Path) -> None:
    starts = [offset + (p == 1) for p, offset in enumerate(world.snapshot.offsets)]
    with pytest.raises(Shortened, match=f"partition 0 of the log starts at {starts[0]},"):
        verify(world.settings, Later(world.log, starts))
    none = msgspec.structs.replace(world.settings, data_dir=tmp_path)
    code, _, said = run(none)
    assert code == 1
    assert "does not reach back to any snapshot" in said
    assert "freshet snapshot make" in said


def test_a_torn_snapshot_is_named(world: World) -> None:
    people = world.snapshot.partitions[2].people.name
    path = world.settings.data_dir / "lake" / "snapshots" / world.snapshot.id / people
    held = path.read_bytes()
    path.write_bytes(held[:-1])
    try:
        code, _, said = run(world.settings)
    finally:
        path.write_bytes(held)
    assert (code, f"snapshot {world.snapshot.id}: {people} has" in said) == (1, True), said


# -- the command ----------------------------------------------------------------------------


def run(settings: Settings, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["verify", *options], env=to_environment(settings))
    return result.exit_code, result.stdout, result.stderr


def test_the_command_names_the_snapshot_that_it_began_at(world: World) -> None:
    code, text, _ = run(world.settings)
    assert (code, f"from snapshot {world.snapshot.id} on" in text) == (0, True), text
    code, text, _ = run(world.settings, "--json", "--partition", "2")
    report = json.loads(text)
    assert (code, report["mismatches"]) == (0, [])
    assert report["from"] == {"2": world.snapshot.offsets[2]}
    assert report["snapshot"] == world.snapshot.id
