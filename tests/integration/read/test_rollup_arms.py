"""Arms and experiments from the delta log to Redis, to serving, to the topic: real Redis, real broker."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import TopicPartition

from flows.kit.metrics import FlowMetrics
from flows.rollup.cycle import Cycle
from flows.rollup.readouts import RESEND_SECONDS, Readouts, Sender
from flows.rollup.tables import CHANGES_KEPT_SECONDS, Overtaken, Rollup
from infra.apps.inspect import arms as inspect_arms
from infra.apps.inspect.held import item_held
from infra.cli.tail.experiments import print_blocks
from infra.kafka import kafka_client
from infra.kafka.records import records
from infra.local import services
from infra.settings import Settings, to_environment
from infra.store import redis_client
from models.aggregates.arms import Arm, arm, arm_key
from models.aggregates.moments import moments, moments_key
from schemas.identity import item_hash
from schemas.keys import PLAIN
from schemas.readouts import Readout, decode
from schemas.state import tables
from schemas.topics import EXPERIMENTS
from serving.state.follow import Gap
from serving.state.followers import TablesFollower
from serving.state.generation import Generation
from serving.world.catalogue import ItemTable
from serving.world.tables import Tables
from tests.support.loop import AB, NONE, TWO_PEOPLE, append, entry, put_experiment

pytestmark = pytest.mark.on_cluster

CLICKED = Arm(2, 0, 1, 1, 0, 0, 0, 2.0, 0.5)
"""The arm of i1 at home after `TWO_PEOPLE`."""


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis_client.connect(Settings(redis_url=redis_url)) as connected:
        connected.flushall()
        yield connected


def cycle_of(settings: Settings, client: Any) -> tuple[Cycle, Readouts]:
    readouts = Readouts(settings, client)
    return Cycle(
        Rollup(client, settings), readouts, FlowMetrics(settings, "rollup"), settings
    ), readouts


def published(settings: Settings, at_least: int) -> list[Readout]:
    """The readouts of the topic, once it holds so many."""
    reader, partition = kafka_client.consumer(settings), TopicPartition(EXPERIMENTS.name, 0)
    found: list[Any] = []
    try:
        reader.assign([partition])
        reader.seek_to_beginning(partition)
        until = time.monotonic() + 20
        while (
            len(found) < at_least
            or reader.position(partition) < reader.end_offsets([partition])[partition]
        ):
            assert time.monotonic() < until, "the readouts do not come"
            found += [record for each in reader.poll(100).values() for record in each]
        assert all(record.key == decode(record.value).experiment_id.encode() for record in found)
        assert all(tuple(record.headers) == EXPERIMENTS.headers for record in found)
        return [decode(record.value) for record in found]
    finally:
        reader.close()


def test_arms_and_moments_are_published_with_the_tables(client: Any) -> None:
    append(client, 1, *TWO_PEOPLE)
    rollup = Rollup(client, Settings())
    assert rollup.read() == 4
    assert rollup.publish()
    assert arm(client.hget(PLAIN.tables().arms, arm_key("home", "i1"))) == CLICKED
    assert client.hlen(PLAIN.tables().arms) == 3
    (key,) = client.hkeys(PLAIN.tables().experiments)
    assert key == moments_key("e", 1)
    rows = moments(client.hget(PLAIN.tables().experiments, key))
    assert rows["units"].tolist() == [1, 1]
    assert sorted(rows["sums"].tolist()) == [[2, 0, 0, 0, 0, 0], [2, 0, 1, 1, 0, 0]]
    ((_, fields),) = client.xrange(PLAIN.tables().changes)
    *_, arms, experiments = tables.DECODER.decode(fields[tables.FIELD]).keys()
    assert set(arms) == client.hgetall(PLAIN.tables().arms).keys()
    assert set(experiments) == client.hgetall(PLAIN.tables().experiments).keys()
    assert tables.META_DECODER.decode(client.get(PLAIN.tables().meta)).published_at > 0
    append(client, 0, entry(0, ["i9"], "served"))
    rollup.read()
    rollup.publish()
    change = tables.DECODER.decode(client.xrevrange(PLAIN.tables().changes)[0][1][tables.FIELD])
    assert change.keys()[2:] == [[arm_key("home", "i9")], []]


def test_a_roll_up_that_is_killed_anywhere_publishes_the_same_arms(client: Any) -> None:
    append(client, 1, *TWO_PEOPLE[:2])
    rollup = Rollup(client, Settings())
    rollup.read()
    rollup.publish()
    rollup.store()
    append(client, 1, *TWO_PEOPLE[2:3])
    rollup.read()
    rollup.publish()  # and is killed: its base is older than its published tables
    again = Rollup(client, Settings())
    assert not again.publish(), "it must not go back behind what was published"
    assert again.published is None
    append(client, 1, *TWO_PEOPLE[3:])
    again.read()
    assert again.publish()
    assert arm(client.hget(PLAIN.tables().arms, arm_key("home", "i1"))) == CLICKED
    rollup.read()
    with pytest.raises(Overtaken):
        rollup.publish()


def test_the_stream_of_changes_goes_back_two_minutes(client: Any) -> None:
    """Its entries are small here, and Redis trims by whole nodes of 100."""
    rollup = Rollup(client, Settings(rollup_seconds=10.0))
    for n in range(250):
        append(client, 0, entry(n, ["i1"], "served"))
        rollup.read()
        rollup.publish()
    kept = CHANGES_KEPT_SECONDS / 10.0
    assert kept <= client.xlen(PLAIN.tables().changes) < kept + 101
    assert arm(client.hget(PLAIN.tables().arms, arm_key("home", "i1"))).served == 250


def test_serving_follows_and_a_reader_too_far_behind_loads_everything(
    client: Any, redis_url: str
) -> None:
    rollup = Rollup(client, Settings(rollup_seconds=60.0))

    def go_on(*entries: Any) -> None:
        append(client, 1, *entries)
        rollup.read()
        rollup.publish()

    async def follow() -> None:
        items = ItemTable(capacity=2)
        held = Tables(items)
        redis = redis_client.connect_async(Settings(redis_url=redis_url))
        follower = TablesFollower(redis, held, Generation(redis, PLAIN))
        go_on(*TWO_PEOPLE[:2])
        await follower.load()
        assert served(held, "i1") == 2
        assert held.arms("popular") is None
        go_on(*TWO_PEOPLE[2:])
        go_on(entry(4, ["i1", *[f"j{n}" for n in range(20)]], "served"))  # the catalogue grows
        await follower._take_new()
        assert (served(held, "i1"), served(held, "j19")) == (3, 1)
        assert moments(held.experiments[moments_key("e", 1)])["sums"].sum() == 6
        for n in range(5, 210):
            go_on(entry(n, ["i1"], "served"))
        with pytest.raises(Gap):
            await follower._take_new()
        await follower.load()
        assert served(held, "i1") == 208
        redis_gone = client.delete(PLAIN.tables().arms, PLAIN.tables().experiments)
        await follower.load()  # a store that was emptied: missing arms are dropped
        assert (redis_gone, held.arms("home"), held.experiments) == (2, None, {})
        await redis.aclose()

    def served(held: Tables, item: str) -> int:
        slot = held.items.slot(item_hash(item))  # what was published before is there with it
        arms = held.arms("home")
        assert arms is not None
        return int(arms.served[slot])

    asyncio.run(follow())


def test_readouts_reach_the_topic_and_the_last_revision_wins(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with redis_client.connect(settings) as client:
        put_experiment(client)
        append(client, 1, *TWO_PEOPLE[:2])
        made, readouts = cycle_of(settings, client)
        begun = time.time_ns() // 1_000_000
        made.step()
        (first,) = published(settings, 1)
        assert (first.experiment_id, first.version, first.placement) == ("e", 1, "home")
        assert (first.revision, first.positions) == (1, (0, 2, 0, 0))
        assert begun <= first.as_of <= time.time_ns() // 1_000_000
        assert [v.counts["served"] for v in first.variants] == [2, 2]
        append(client, 1, *TWO_PEOPLE[2:])
        made.step()  # not yet time
        made.finish()  # the final state
        readouts.close()
        last = published(settings, 2)[-1]
        assert (last.revision, last.positions) == (2, (0, 4, 0, 0))
        b = last.variants[1]
        assert (b.units, b.metrics["ctr"].value, b.metrics["conversion"].value) == (1, 0.5, 1.0)
        print_blocks(records(settings, "experiments", False, until_end=True, last=1), None)
        shown = capsys.readouterr().out.splitlines()
        assert shown[0].startswith("e version 1 at home, revision 2, as of ")
        assert shown[3].split() == ["b", "1", "2", "1", "50.00%", "-", "100.00%"]
        meta = tables.META_DECODER.decode(client.get(PLAIN.tables().meta))
        assert (meta.version, tuple(meta.positions)) == (last.revision, last.positions)
        assert Rollup(client, settings).tables.positions == meta.positions  # and it was stored


def test_a_readout_is_published_once_it_changed_and_a_running_one_again(
    client: Any, settings: Settings
) -> None:
    at = [100.0]
    readouts = Readouts(settings, client, clock=lambda: at[0])
    put_experiment(client)
    append(client, 1, *TWO_PEOPLE)
    rollup = Rollup(client, settings)

    def step(seconds: float) -> int:
        at[0] += seconds
        rollup.read()
        rollup.publish()
        assert rollup.published is not None
        return readouts.step(rollup.tables, rollup.published, rollup.as_of)

    assert step(0) == 1
    assert step(settings.readout_seconds) == 0, "nothing changed"
    append(client, 0, entry(0, ["i1"], "served"))
    assert step(settings.readout_seconds) == 0, "of no person in it"
    append(client, 0, entry(1, ["i1"], "served", person=("a", NONE, (1, 0, 0, 0))))
    assert step(settings.readout_seconds / 2) == 0, "not yet time"
    assert step(settings.readout_seconds / 2) == 1
    assert step(RESEND_SECONDS) == 1, "a new reader gets it"
    put_experiment(client, msgspec.structs.replace(AB, running=False), version=2)
    assert step(settings.readout_seconds) == 1, "paused: how it ended"
    assert step(RESEND_SECONDS) == 0
    readouts.close(10)
    last = published(settings, 1)[-1]
    assert last.version == 1
    assert [v.units for v in last.variants] == [2, 1]


def test_an_unreadable_record_of_control_stops_no_readout(client: Any, settings: Settings) -> None:
    client.hset(PLAIN.control_state(), "experiment:x", b"{")
    client.hset(PLAIN.control_state(), "experiment:y", b'{"version":1,"body":"[]","offset":1}')
    client.hset(PLAIN.control_state(), "placement:e", b"anything")
    put_experiment(client)
    append(client, 0, TWO_PEOPLE[0])
    made, readouts = cycle_of(settings, client)
    made.step()
    made.finish()
    readouts.close()
    assert [it.experiment_id for it in published(settings, 1)] == ["e"]
    assert readouts.sender.failed == 0


def test_without_a_broker_the_roll_up_goes_on_and_stops_cleanly(
    client: Any, redis_url: str, tmp_path: Path
) -> None:
    nowhere = f"127.0.0.1:{services.free_port()}"
    settings = Settings(redis_url=redis_url, kafka_bootstrap=nowhere, data_dir=tmp_path)
    put_experiment(client)
    append(client, 1, *TWO_PEOPLE[:2])
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "flows", "run", "rollup"],
        env={**os.environ, **to_environment(settings)},
    )
    try:
        wait(lambda: client.hlen(PLAIN.tables().arms) == 3)
        append(client, 1, *TWO_PEOPLE[2:])
        wait(lambda: arm(client.hget(PLAIN.tables().arms, arm_key("home", "i1"))) == CLICKED)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert Rollup(client, settings).tables.positions == [0, 4, 0, 0]


def test_a_readout_that_fails_is_counted_and_the_next_one_sent(settings: Settings) -> None:
    sender = Sender(settings)
    sender.offer(b"e", b" " * (2 << 20))  # more than Kafka takes
    wait(lambda: sender.failed == 1)
    sender.offer(b"e", b"{}")
    wait(lambda: sender.sent == 1)
    sender.close(10)
    assert sender.failed == 1


def wait(condition: Callable[[], bool]) -> None:
    services.wait_until(condition, 20, "it did not happen")


def test_inspect_shows_the_arms_of_an_item(client: Any, redis_url: str) -> None:
    append(client, 1, *TWO_PEOPLE, entry(4, ["i1"], "served", placement="elsewhere"))
    rollup = Rollup(client, Settings())
    rollup.read()
    rollup.publish()
    held = item_held(Settings(redis_url=redis_url), "i1", 1_700_000_000_000)
    unknown, home = held["arms"]
    assert unknown["placement"].startswith("#"), "its name is nowhere stored"
    assert (home["placement"], home["served"], home["clicked"]) == ("home", 2, 1)
    assert (home["mean_reward"], home["beta"]) == (0.5, {"alpha": 2, "beta": 2})
    lo, hi = home["click_rate"]["interval"]
    assert (home["click_rate"]["mean"], round(lo, 3), round(hi, 3)) == (0.5, 0.094, 0.906)
    assert inspect_arms.cells(home)[-1] == "[9.43%, 90.57%]"
    assert inspect_arms.arms_held(client, PLAIN, "i404") == []


@pytest.mark.parametrize("item", [f"x{n}" for n in range(10)])
def test_an_item_whose_hash_reads_like_a_pattern_is_found(client: Any, item: str) -> None:
    """Every byte of a hash may be a special character of MATCH."""
    value = b"\1" + bytes(tables.ARM.itemsize - 1)
    for special in (b"*", b"?", b"[", b"]", b"\\", b"^", b"-", b"\0", b"\n"):
        client.hset(PLAIN.tables().arms, b"abcd" + special * 8, value)
    client.hset(PLAIN.tables().arms, arm_key("home", item), value)
    (found,) = inspect_arms.arms_held(client, PLAIN, item)
    assert (found["placement"], found["served"]) == ("home", 1)
