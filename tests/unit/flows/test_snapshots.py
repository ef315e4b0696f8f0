"""A snapshot made from another equals the one made from the beginning; each fault is named."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from flows.people import fold
from flows.snapshots import make, read
from flows.snapshots.files import BadSnapshot, ForeignSnapshot, NoSnapshot, SnapshotError
from infra.kafka.kafka_client import TopicInfo
from infra.lake.errors import LakeReadOnly
from infra.log_reader import OffTheLog
from infra.settings import Settings
from models.aggregates.tables import Tables
from schemas import keys
from schemas.snapshots import Snapshot
from tests.laws.world import T0
from tests.support.offline import (
    HOUR,
    PARTITIONS,
    TOPIC,
    MemoryLog,
    crowd,
    folded,
    log_of,
    relayed,
    settings_in,
)
from tests.support.pair_rows import pair_rows
from tests.unit.infra.test_lake_manifest import read_only


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> MemoryLog:
    """A log of every kind of record, with merges of a relay, and records behind them."""
    settings = settings_in(tmp_path_factory.mktemp("log"))
    made = relayed(settings, log_of(crowd(500)), T0 + 200 * HOUR)
    for partition, more in enumerate(log_of(crowd(150, seed=3), seed=3).partitions):
        made.partitions[partition] += [(at + 300 * HOUR, value) for at, value in more]
    return made


@pytest.fixture(scope="module")
def whole(log: MemoryLog, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Snapshot]:
    settings = settings_in(tmp_path_factory.mktemp("whole"))
    return settings, make_until(settings, log, log.end_offsets)


@pytest.fixture
def copied(whole: tuple[Settings, Snapshot], tmp_path: Path) -> tuple[Settings, Snapshot]:
    """A copy of a snapshot, for a test to break."""
    shutil.copytree(whole[0].data_dir, tmp_path, dirs_exist_ok=True)
    return settings_in(tmp_path), whole[1]


def make_until(
    settings: Settings, log: MemoryLog, until: Sequence[int], base: Snapshot | None = None
) -> Snapshot:
    return make.make(settings, log, until, base, topic=TOPIC)


def folder(settings: Settings, snapshot: Snapshot) -> Path:
    return settings.data_dir / "lake" / "snapshots" / snapshot.id


def rewrite(settings: Settings, snapshot: Snapshot, **changed: object) -> None:
    """Gives the manifest other fields."""
    path = folder(settings, snapshot) / "manifest.json"
    held = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**held, **changed}))


def held(settings: Settings, snapshot: Snapshot) -> list[object]:
    """All state of people in a snapshot, as plain values."""
    return [
        (*read.load(settings, snapshot, p), read.outbox(settings, snapshot, p))
        for p in range(PARTITIONS)
    ]


def assert_same_sums(mine: Tables, theirs: Tables) -> None:
    """Asserts equality to 1e-9: the order of additions must not show."""
    one, other = mine.publish(1), theirs.publish(1)
    assert mine.positions == theirs.positions
    for held, there, a, b in (
        (mine.popularity, theirs.popularity, one.popularity, other.popularity),
    ):
        assert set(a) == set(b)
        at = T0 / 1000  # sums are as of their landmarks
        own_scale, other_scale = (
            np.ravel([mark.now(np.ones(1), at) for mark in it.landmarks]) for it in (held, there)
        )
        for key in a:
            sums, others = np.frombuffer(a[key]) * own_scale, np.frombuffer(b[key]) * other_scale
            assert np.allclose(sums, others, rtol=1e-9, atol=1e-140)
    assert pairs(mine) == pytest.approx(pairs(theirs), rel=1e-9)
    assert (one.arms, one.experiments) == (other.arms, other.experiments)


def pairs(tables: Tables) -> dict[str, float]:
    """Of items by hash, their sums as of T0."""
    now = tables.pairs.landmark.now(np.ones(1), T0 / 1000)[0]
    return {str(pair): sum_ * now for pair, sum_ in pair_rows(tables).items()}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_snapshot_made_from_another_equals_the_one_made_from_the_beginning(
    log: MemoryLog, whole: tuple[Settings, Snapshot], tmp_path: Path, share: float
) -> None:
    settings = settings_in(tmp_path)
    first = make_until(settings, log, [int(end * share) for end in log.end_offsets])
    second = make_until(settings, log, log.end_offsets, first)
    assert second.base == first.id
    assert held(settings, second) == held(*whole)
    assert_same_sums(read.tables(settings, second), read.tables(*whole))
    assert [(p.events, p.dead_letters) for p in second.partitions] == [
        (p.events, p.dead_letters) for p in whole[1].partitions
    ]


def test_a_snapshot_holds_the_state_of_the_fold_at_its_offsets(
    log: MemoryLog, tmp_path: Path
) -> None:
    settings, until = settings_in(tmp_path), [231, 157]
    made = make_until(settings, log, until)
    assert made.offsets == until
    for p in range(PARTITIONS):
        plain = folded(settings, MemoryLog([records[: until[p]] for records in log.partitions]), p)
        fence, state, received, tallies = read.load(settings, made, p)
        assert (fence, state, received) == (plain.fence, plain.state, plain.received)
        assert tallies == plain.tallies
        assert fence.newest == max(timestamp for timestamp, _ in log.partitions[p][: until[p]])
        assert made.partitions[p].dead_letters == plain.dead.total()


def test_what_was_sent_and_not_received_is_in_its_outbox(log: MemoryLog, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    sent = make_until(settings, log, log.end_offsets)
    before = log_of(crowd(500))
    unsent = make_until(settings, log, before.end_offsets)
    for p in range(PARTITIONS):
        emitted = [it.id for it in folded(settings, before, p).outbox]
        assert [row[0] for row in read.outbox(settings, unsent, p)] == emitted
        assert emitted
        gone = {row[0] for row in read.outbox(settings, sent, p)}
        assert not gone & set(emitted)


@pytest.mark.check
def test_several_processes_make_the_same_snapshot(
    log: MemoryLog, whole: tuple[Settings, Snapshot], tmp_path: Path
) -> None:
    settings, seen = settings_in(tmp_path), list[int]()
    made = make.make(settings, log, log.end_offsets, None, seen.append, topic=TOPIC, processes=2)
    assert sum(seen) == made.events == sum(log.end_offsets)
    assert held(settings, made) == held(*whole)
    assert_same_sums(read.tables(settings, made), read.tables(*whole))


@pytest.mark.check
def test_an_error_in_a_process_is_raised_as_it_was(log: MemoryLog, tmp_path: Path) -> None:
    beyond = [log.end_offsets[0], log.end_offsets[1] + 1]
    with pytest.raises(OffTheLog, match="the log ends at"):
        make.make(settings_in(tmp_path), log, beyond, topic=TOPIC, processes=2)
    assert [it.why[-40:] for it in read.listed(settings_in(tmp_path), TOPIC)] == [
        "snapshot, whose making failed or still runs"[-40:]
    ]


def test_the_latest_snapshot_is_the_one_that_reaches_furthest(
    log: MemoryLog, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path)
    assert read.latest(settings, TOPIC) is None
    far = make_until(settings, log, [200, 150])
    near = make_until(settings, log, [100, 150])
    assert {it.id for it in read.listed(settings, TOPIC)} == {far.id, near.id}
    assert read.latest(settings, TOPIC) == far
    assert read.latest(settings, TOPIC, within=[199, 150]) == near
    assert read.latest(settings, TOPIC, within=[99, 999]) is None
    read.remove(settings, far.id)
    assert read.latest(settings, TOPIC) == near
    with pytest.raises(NoSnapshot, match=near.id):
        read.find(settings, far.id, TOPIC)


def test_a_snapshot_never_goes_back_behind_its_base(log: MemoryLog, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    base = make_until(settings, log, [100, 100])
    with pytest.raises(SnapshotError, match="until is 99 in partition 1"):
        make_until(settings, log, [100, 99], base)
    with pytest.raises(SnapshotError, match="until has 1 offsets"):
        make_until(settings, log, [100], base)


# -- bad input ------------------------------------------------------------------------------


def read_all(settings: Settings, snapshot: Snapshot) -> None:
    found = read.find(settings, snapshot.id, TOPIC)
    held(settings, found)
    read.tables(settings, found)


def test_half_a_snapshot_is_none(copied: tuple[Settings, Snapshot]) -> None:
    (folder(*copied) / "manifest.json").unlink()
    assert read.latest(copied[0], TOPIC) is None
    with pytest.raises(BadSnapshot, match=r"no manifest\.json: half a snapshot"):
        read_all(*copied)


@pytest.mark.parametrize("name", ["people-01.parquet", "outbox-00.parquet", "tables.npz"])
def test_a_file_that_is_missing_cut_or_changed_is_named(
    copied: tuple[Settings, Snapshot], name: str
) -> None:
    path = folder(*copied) / name
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(BadSnapshot, match=f"{name} is missing"):
        read_all(*copied)
    path.write_bytes(data[:-1])
    with pytest.raises(BadSnapshot, match=f"{name} has {len(data) - 1} bytes, the manifest says"):
        read_all(*copied)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BadSnapshot, match=f"{name} has another sha256"):
        read_all(*copied)
    path.write_bytes(data)
    read_all(*copied)


def test_a_file_of_another_snapshot_is_named(
    copied: tuple[Settings, Snapshot], log: MemoryLog
) -> None:
    other = make_until(copied[0], log, [10, 10])
    files = msgspec.json.decode((folder(copied[0], other) / "manifest.json").read_bytes())
    shutil.copy(folder(copied[0], other) / "tables.npz", folder(*copied) / "tables.npz")
    rewrite(*copied, tables=files["tables"])
    with pytest.raises(BadSnapshot, match=r"tables\.npz is at other offsets"):
        read_all(*copied)
    shutil.copy(folder(copied[0], other) / "manifest.json", folder(*copied) / "manifest.json")
    with pytest.raises(BadSnapshot, match=r"manifest\.json is that of another snapshot"):
        read_all(*copied)


def test_an_invalid_manifest_is_named(copied: tuple[Settings, Snapshot]) -> None:
    for data in (b"", b"{}", b'{"version": 1}', b"\xff"):
        (folder(*copied) / "manifest.json").write_bytes(data)
        with pytest.raises(BadSnapshot, match=r"manifest\.json is not a manifest"):
            read_all(*copied)
        assert read.latest(copied[0], TOPIC) is None


def test_a_snapshot_of_another_log_is_refused_by_name(copied: tuple[Settings, Snapshot]) -> None:
    for topic, what in (
        (TopicInfo("another", PARTITIONS), "its topic id is a topic id, that of events is another"),
        (TopicInfo(TOPIC.id, 3), "it is of 2 partitions, the topic has 3"),
    ):
        with pytest.raises(ForeignSnapshot, match=what):
            read.find(copied[0], copied[1].id, topic)
        assert read.latest(copied[0], topic) is None
        assert what in read.listed(copied[0], topic)[0].why


def test_a_snapshot_of_a_newer_form_is_refused_by_name(copied: tuple[Settings, Snapshot]) -> None:
    rewrite(*copied, version=2)
    with pytest.raises(ForeignSnapshot, match="form 2, this Freshet reads form 1"):
        read_all(*copied)


@pytest.mark.parametrize("name", ["fold", "facts", "rows", "accounts", "tables"])
@pytest.mark.parametrize("by", [-2, 1])
def test_a_snapshot_of_unreadable_versions_is_refused_by_name(
    copied: tuple[Settings, Snapshot], name: str, by: int
) -> None:
    versions = msgspec.to_builtins(copied[1].versions)
    version = versions[name] + by
    rewrite(*copied, versions={**versions, name: version})
    with pytest.raises(ForeignSnapshot, match=rf"versions\.{name} is of version {version}, this"):
        read_all(*copied)


def test_a_fold_that_takes_over_the_state_before_it_reads_its_snapshots(
    copied: tuple[Settings, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upgrade of the version before is applied to every partition, with a fence of this version."""
    from flows.snapshots import versions

    settings, snapshot = copied
    before = fold.VERSION - 1
    rewrite(*copied, versions={**msgspec.to_builtins(snapshot.versions), "fold": before})
    upgrades = {before: lambda state: {**state, b"a key": b"that is new"}}
    versioned = versions.VERSIONED["fold"]._replace(upgrades=upgrades)
    monkeypatch.setitem(versions.VERSIONED, "fold", versioned)
    found = read.find(settings, snapshot.id, TOPIC)
    fence, state = read.load(settings, found, 1)[:2]
    assert fence.version == fold.VERSION
    assert state.pop(b"a key") == b"that is new"
    assert state == read.load(settings, snapshot, 1)[1]


def test_a_lake_that_cannot_be_written_says_so(log: MemoryLog, tmp_path: Path) -> None:
    held = Settings(lake_url=str(read_only(tmp_path) / "lake"), partitions=PARTITIONS)
    with pytest.raises(LakeReadOnly, match=r"read-only: snapshots/.*people-00\.parquet"):
        make_until(held, log, [10, 10])
    tmp_path.chmod(0o700)


def test_keys_are_those_of_people_without_vectors(whole: tuple[Settings, Snapshot]) -> None:
    kinds = {key[: key.index(b":")] for key in read.load(*whole, 0)[1]}
    owned = {it.prefix for it in keys.KEYS if it.owner == "people"}
    assert kinds <= owned - {b"v", b"f", b"dl", b"ob", b"or", b"n"}
    assert {b"u", b"s", b"o", b"im", b"l", b"p", b"dd"} <= kinds
