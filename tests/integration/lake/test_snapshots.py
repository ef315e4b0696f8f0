"""Snapshots beside the running flows hold the state of Redis at the same offsets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from moto.server import ThreadedMotoServer

from flows.relay.dataflow import Relay
from flows.rollup.tables import Rollup
from flows.snapshots import files, make, read
from infra.cli.main import cli
from infra.kafka import kafka_client
from infra.kafka.reader import Topics
from infra.settings import Settings, to_environment
from infra.store import redis_client
from models.aggregates.tables import Tables
from schemas import events
from schemas.identity import partition_of
from schemas.keys import PLAIN
from schemas.snapshots import Snapshot
from schemas.topics import EVENTS
from tests.laws.world import T0
from tests.support.offline import POISON, crowd
from tests.support.running import fold_people
from tests.unit.flows.test_snapshots import assert_same_sums


def send(settings: Settings, made: list[events.Event], first_at: int = T0) -> None:
    """Sends one record for each second, and some poison."""
    producer = kafka_client.producer(settings)
    for n, event in enumerate(made):
        key = event.person.encode()
        partition = partition_of(key, settings.partitions)
        values = [events.encode(event), *([POISON] if n % 100 == 50 else [])]
        for value in values:
            producer.send(
                EVENTS.name,
                key=key,
                value=value,
                partition=partition,
                timestamp_ms=first_at + 1000 * n,
            )
    producer.flush()
    producer.close()


def fold(settings: Settings) -> None:
    """Runs `people` up to the log's end, the relay until nothing waits, and the same again for that."""
    sent = 1
    while sent:
        fold_people(settings)
        with redis_client.connect(settings) as client:
            relay = Relay(settings, client)
            sent = relay.step()
            relay.close()


def end_offsets(settings: Settings) -> list[int]:
    log = Topics(settings)
    return [log.bounds(EVENTS.name, p)[1] for p in range(settings.partitions)]


def in_redis(client: Any, partition: int) -> dict[bytes, bytes]:
    """Every string key of the partition but its fence."""
    names = [
        name
        for kind in PLAIN.owned_patterns("people", partition)
        for name in client.scan_iter(match=kind, count=1000)
        if client.type(name) == b"string" and not name.startswith((b"f:", b"v:"))
    ]
    return dict(zip(names, client.mget(names), strict=True))


def assert_as_in_redis(settings: Settings, made: Snapshot) -> None:
    with redis_client.connect(settings) as client:
        rollup = Rollup(client, settings)
        rollup.catch_up(10)
        assert_same_sums(read.tables(settings, made), rollup.tables)
        for p in range(settings.partitions):
            fence, state, received, tallies = read.load(settings, made, p)
            stored = client.get(PLAIN.fence("people", p))
            assert stored is not None
            assert msgspec.msgpack.decode(stored)[:5] == list(msgspec.structs.astuple(fence))[:5]
            assert received == client.hgetall(PLAIN.received(p))
            assert tallies == client.hgetall(PLAIN.tallies(p))
            held = in_redis(client, p)
            assert set(state) == set(held)
            assert state == held


@pytest.mark.check
def test_a_snapshot_equals_the_state_of_the_flow_at_the_same_offsets(settings: Settings) -> None:
    send(settings, crowd(700))
    fold(settings)
    first = make.make(settings, Topics(settings), end_offsets(settings))
    assert_as_in_redis(settings, first)
    assert [len(read.outbox(settings, first, p)) for p in range(4)] == [0] * 4

    send(settings, crowd(400, seed=5), T0 + 5_000_000)
    fold(settings)
    second = make.make(settings, Topics(settings), end_offsets(settings), first)
    assert_as_in_redis(settings, second)
    assert read.latest(settings) == second
    assert sum(p.dead_letters for p in second.partitions) == 7 + 4


def test_a_recreated_topic_has_no_snapshot(settings: Settings) -> None:
    send(settings, crowd(50))
    made = make.make(settings, Topics(settings), end_offsets(settings))
    admin = kafka_client.admin(settings)
    admin.delete_topics([EVENTS.name])
    admin.close()
    kafka_client.ensure_topics(settings)
    assert read.latest(settings) is None
    with pytest.raises(files.ForeignSnapshot, match=r"its topic id is .* was recreated"):
        read.find(settings, made.id)


# -- the command ----------------------------------------------------------------------------


def freshet(settings: Settings, *arguments: str, code: int = 0) -> Result:
    runner = CliRunner(env=to_environment(settings))
    done = runner.invoke(cli, ["snapshot", *arguments], prog_name="freshet")
    assert done.exit_code == code, done.output
    return done


def read_json(settings: Settings, *arguments: str) -> Any:
    return json.loads(freshet(settings, *arguments, "--json").stdout)


@pytest.mark.check
def test_snapshots_are_made_listed_shown_and_pruned(settings: Settings) -> None:
    send(settings, crowd(300))
    there = end_offsets(settings)
    first = read_json(settings, "make", "--until", ",".join(str(end // 2) for end in there))
    assert first["offsets"] == [end // 2 for end in there]
    assert "/s" in freshet(settings, "make").output  # says how fast
    second = read_json(settings, "list")[0]
    assert (second["base"], second["offsets"]) == (first["id"], there)
    assert read_json(settings, "make") == {
        k: v for k, v in second.items() if k != "state"
    }  # nothing new
    third = read_json(settings, "make", "--from", "beginning")
    assert (third["base"], third["events"]) == ("", second["events"])
    assert read_json(settings, "show", third["id"])["id"] == third["id"]
    assert {it["state"] for it in read_json(settings, "list")} == {"ready"}

    freshet(settings, "prune", "--keep", "2")
    assert len(read_json(settings, "list")) == 2
    oldest = read_json(settings, "list")[1]["id"]
    folder = settings.data_dir / "lake" / "snapshots" / oldest
    (folder / "tables.npz").unlink()
    assert "tables.npz is missing" in freshet(settings, "show", oldest, code=1).output
    (folder / "manifest.json").unlink()
    assert f"stays: snapshot {oldest}: it has no manifest" in freshet(settings, "prune").output
    freshet(settings, "remove", oldest)
    assert [it["id"] for it in read_json(settings, "list")] == [third["id"]]
    assert "there is no snapshot of that name" in freshet(settings, "show", oldest, code=1).output


@pytest.mark.check
def test_a_snapshot_until_a_time_holds_the_records_written_before_it(settings: Settings) -> None:
    send(settings, crowd(200))
    at = T0 + 120_000
    found = read_json(settings, "make", "--until", "2025-10-09T08:55:20Z")
    assert at == 1_760_000_120_000
    log = Topics(settings)
    for p, offset in enumerate(found["offsets"]):
        timestamps = [
            s for it in log.read(EVENTS.name, p, 0, end_offsets(settings)[p]) for s in it.timestamps
        ]
        assert offset == sum(timestamp < at for timestamp in timestamps)
        assert 0 < offset < len(timestamps)
    # from the snapshot on, not from the beginning
    later = read_json(settings, "make", "--until", "2025-10-09T08:56:00Z")
    assert later["base"] == found["id"]
    for text, why in (
        ("1,2", "has 2 offsets, events has 4 partitions"),
        ("1,2,3,999999", "beyond the log of partition 3"),
        ("yesterday", "takes an offset of each partition"),
    ):
        assert why in freshet(settings, "make", "--until", text, code=2).output
    back = freshet(settings, "make", "--from", later["id"], "--until", "1,1,1,1", code=1).output
    assert "until is 1 in partition 0" in back


# -- in a bucket ----------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of moto's S3 endpoint, as `lake_url` takes it."""
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        where = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=where, region_name="us-east-1").create_bucket(
            Bucket="freshet"
        )
        yield f"s3://freshet/lake?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    finally:
        server.stop()


@pytest.mark.check
def test_a_snapshot_in_a_bucket_equals_the_one_on_disk(
    settings: Settings, bucket: str, tmp_path: Path
) -> None:
    away = msgspec.structs.replace(settings, lake_url=bucket)
    send(settings, crowd(200))
    here = make.make(settings, Topics(settings), end_offsets(settings))
    first = make.make(away, Topics(away), [end // 2 for end in end_offsets(away)])
    there = make.make(away, Topics(away), end_offsets(away), read.latest(away))
    assert there.base == first.id
    for p in range(settings.partitions):
        assert read.load(away, there, p) == read.load(settings, here, p)
    assert isinstance(read.tables(away, there), Tables)
    read.remove(away, there.id)
    assert read.latest(away) == first
