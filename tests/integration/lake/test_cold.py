"""The cold tier: a person not seen for long moves to the lake and comes back byte for byte. A fold's result
is the same meanwhile."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from redis.crc import key_slot
from rich.console import Console

from flows.kit.commit import Fenced
from flows.kit.source import Reader
from flows.people import cold as tier
from flows.people import dataflow, steps
from flows.rebuild import generations, in_place
from flows.verify.run import verify
from infra.cli.main import cli
from infra.kafka.reader import Topics
from infra.lake import cold_objects, store
from infra.local import services
from infra.settings import Settings, signing_key, to_environment
from infra.store import redis_client
from infra.store.redis_client import Client
from infra.terminal.progress import Reporter
from models import seen
from schemas import events, keys
from schemas.identity import partition_of, pseudonym
from schemas.keys import PLAIN
from schemas.state import cold, fences
from schemas.topics import EVENTS
from tests.flows.faults import traffic
from tests.flows.slates import with_slates
from tests.integration.operate.test_scrape import flow, own_port
from tests.laws.world import T0, action
from tests.support.cluster import NODES, Cluster
from tests.support.http import serving
from tests.support.running import send_events

pytestmark = pytest.mark.on_cluster

HELD = (*keys.COLD_KINDS, b"p", b"l", b"dd")
FOREVER = 1 << 52


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks for a sweep before each of its steps, not once a second."""
    monkeypatch.setattr(tier, "POLL_SECONDS", -1.0)
    monkeypatch.setattr(tier, "PEOPLE_PER_STEP", 40)


def crowd(n: int = 3000, seed: int = 3) -> list[events.Event]:
    rnd = random.Random(seed)
    made = with_slates(traffic(n, 150, rnd), rnd)
    one = made[0].person
    preferences = events.Preferences(event_id="p", person=one, received_at=T0, hidden_items=("i9",))
    return [*made, preferences]


def with_links(made: list[events.Event]) -> list[events.Event]:
    """The records with links of the people who act most, and their ends, among them."""
    people = [name for name, _ in Counter(event.person for event in made).most_common(12)]
    for n, (one, to) in enumerate(itertools.pairwise(people)):
        link = events.Link(event_id=f"l{n}", person=one, to=to, received_at=T0)
        end = events.Unlink(event_id=f"u{n}", person=one, to=to, received_at=T0)
        made.insert(len(made) // 3, link)
        made.insert(2 * len(made) // 3, end)
    return made


def open_worker(settings: Settings) -> dataflow.People:
    return dataflow.People(settings, reader=Reader(settings, EVENTS.name, until_end=True))


def drive(worker: dataflow.People, before_each: Any = lambda p: None) -> None:
    """Folds to the log's end by hand, with a worker whose caches persist between batches."""
    reader = worker.reader
    while any(reader.position[p] < reader.end[p] for p in worker.partitions):
        if batches := reader.next():
            for batch in batches:
                before_each(batch.partition)
            good = worker.dead_letters(steps.decode(batches))
            worker.commit(worker.fold(worker.dedupe(good)))


def ask(client: Client, partition: int, before: int = FOREVER) -> str:
    asked = cold.SweepRequest(f"{random.random()}", before)
    client.set(PLAIN.cold_asked(partition), cold.encode(asked))
    return asked.id


def sweep(client: Client, worker: dataflow.People, before: int = FOREVER) -> None:
    for p in worker.partitions:
        asked = ask(client, p, before)
        while cold.decode(client.get(PLAIN.cold(p))).done != asked:
            worker.between_batches(p)


def values_like(client: Client, pattern: str | bytes) -> dict[bytes, bytes]:
    """The keys of this pattern with their values, of every server."""
    names = sorted(set(client.scan_iter(match=pattern, count=1000)))
    return dict(zip(names, redis_client.mget(client, names), strict=True))


def held(client: Client) -> dict[bytes, bytes]:
    """All state of people, and the ids of their events."""
    return {k: v for prefix in HELD for k, v in values_like(client, prefix + b":*").items()}


def objects(settings: Settings, partition: int) -> set[str]:
    """The names of the objects of a partition."""
    return {it.name for it in store.open_store(settings).list(cold_objects.folder(partition, 0))}


def named(client: Client, partition: int) -> set[str]:
    return {name.decode() for name in values_like(client, PLAIN.tombstone(partition, "*")).values()}


def bring_all_back(client: Client, worker: dataflow.People) -> None:
    for p in worker.partitions:
        names = values_like(client, PLAIN.tombstone(p, "*"))
        worker.tiers[p].warm([name.rpartition(b":")[2].decode() for name in names])


def fence_offsets(client: Client) -> dict[bytes, int]:
    return {k: fences.decode(v).offset for k, v in values_like(client, "f:*:people").items()}


def test_every_key_of_a_person_moves_or_is_declared_to_stay() -> None:
    of_people = {
        key.pattern.partition(":")[0]
        for key in keys.KEYS
        if key.owner == "people" and key.pattern.endswith(":{*}:*")
    }
    # strangers are not cold: their ring has a bound
    assert {it.encode() for it in of_people} - set(HELD) == {b"t", keys.STRANGERS}


def test_people_move_to_the_lake_and_come_back_byte_for_byte(settings: Settings) -> None:
    send_events(settings, crowd())
    worker = open_worker(settings)
    with redis_client.connect(settings) as client:
        drive(worker)
        before, folded = held(client), fence_offsets(client)
        sweep(client, worker)
        kept = held(client)
        assert {name.partition(b":")[0] for name in kept} <= {b"s", b"p", b"l", b"dd"}
        strings = [value for name, value in kept.items() if name.startswith(b"s:")]
        assert strings
        assert all((seen.read(it)["bits"] == seen.HIDE).any() for it in strings)
        cold_now = sum(cold.decode(client.get(PLAIN.cold(p))).people for p in worker.partitions)
        gone = values_like(client, "t:*")
        assert cold_now == len(gone) == len({k for k in before if k[:2] == b"u:"}) > 50
        assert fence_offsets(client) == folded, "no record was folded"
        report = verify(settings, Topics(settings), sums=False)
        assert report.mismatches == []
        assert report.people_checked > 50
        bring_all_back(client, worker)
        assert held(client) == before
        assert values_like(client, "t:*") == {}
        assert [cold.decode(client.get(PLAIN.cold(p))).people for p in worker.partitions] == [0] * 4
    worker.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fold_gives_the_same_while_people_are_cold(settings: Settings, seed: int) -> None:
    """Sweeps of random people at any point of the log, under a worker whose caches persist."""
    rnd = random.Random(seed)
    send_events(settings, with_links(crowd(seed=seed)))
    settings = msgspec.structs.replace(settings, batch=60)
    with redis_client.connect(settings) as client:
        worker = open_worker(settings)
        drive(worker)
        worker.close()
        plain = held(client)
        client.flushall()
        worker = open_worker(settings)
        moved = 0

        def meanwhile(p: int) -> None:
            nonlocal moved
            moved += len(values_like(client, PLAIN.tombstone(p, "*")))
            if rnd.random() < 0.5:
                ask(client, p, T0 + rnd.randrange(3_000_000))

        drive(worker, meanwhile)
        bring_all_back(client, worker)
        worker.close()
        assert moved > 100
        assert held(client) == plain


def test_a_kill_between_object_and_tombstones_leaves_an_object_that_is_swept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_events(settings, crowd(500))
    worker = open_worker(settings)
    with redis_client.connect(settings) as client:
        drive(worker)
        before = held(client)
        lake, folder = store.open_store(settings), cold_objects.folder(0, 0)
        orphans = {
            cold_objects.put(settings, 0, 0, 7, {"a" * 32: {b"u": b"x"}}),
            f"{folder}/cut.parquet",
        }
        lake.put(f"{folder}/cut.parquet", b"PAR1")
        assert held(client) == before
        sweep(client, worker)
        assert orphans < objects(settings, 0), "another worker may be about to name it"
        monkeypatch.setattr(cold_objects, "GRACE_SECONDS", -1.0)
        sweep(client, worker)
        assert objects(settings, 0) == named(client, 0)
        bring_all_back(client, worker)
        assert held(client) == before
    worker.close()


def test_a_slot_that_moves_while_tombstones_are_looked_for_costs_no_object(
    settings: Settings, redis_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slot moves from a node that was not scanned yet to one that was."""
    settings = msgspec.structs.replace(settings, redis_url=redis_cluster.url)
    with redis_client.connect(settings) as client:
        client.flushall()
        send_events(settings, crowd(500))
        worker = open_worker(settings)
        drive(worker)
        before = held(client)
        sweep(client, worker)
        slot, ports = key_slot(PLAIN.cold(0)), redis_cluster.ports
        source = ports.index(client.get_node_from_key(PLAIN.cold(0)).port)
        target, scans = (source + 1) % NODES, iter(["rows", "impressions", "tombstones"])

        def servers(_: Client) -> Iterator[Client]:
            yield redis_cluster.nodes[target]
            if next(scans) == "tombstones":
                redis_cluster.move(slot, source, target)
            yield redis_cluster.nodes[source]

        monkeypatch.setattr(cold_objects, "GRACE_SECONDS", -1.0)
        with monkeypatch.context() as scanning:
            scanning.setattr(redis_client, "servers", servers)
            asked = ask(client, 0)
            while cold.decode(client.get(PLAIN.cold(0))).done != asked:
                worker.between_batches(0)
        assert objects(settings, 0) == named(client, 0) != set()
        bring_all_back(client, worker)
        assert held(client) == before
    worker.close()


def test_a_fenced_worker_moves_no_person(settings: Settings) -> None:
    send_events(settings, crowd(300))
    worker = open_worker(settings)
    with redis_client.connect(settings) as client:
        drive(worker)
        zombie = open_worker(settings)
        send_events(settings, [action(9000, 7)])
        (p,) = {partition_of(action(9000, 7).person.encode(), 4)}
        fresh = open_worker(settings)
        drive(fresh)
        before = held(client)
        ask(client, p)
        with pytest.raises(Fenced):
            zombie.between_batches(p)
        assert held(client) == before
        assert values_like(client, "t:*") == {}
        fresh.close()
        zombie.close()
    worker.close()


@pytest.mark.parametrize("harm", ["missing", "torn", "other"])
def test_an_object_that_is_not_what_was_written_stops_the_flow_with_a_sentence(
    settings: Settings, harm: str
) -> None:
    send_events(settings, [action(1, 7)])
    worker = open_worker(settings)
    (p,) = {partition_of(action(1, 7).person.encode(), 4)}
    with redis_client.connect(settings) as client:
        drive(worker)
        sweep(client, worker)
        name = client.get(PLAIN.tombstone(p, action(1, 7).person)).decode()
        path = Path(store.open_store(settings).path(name))
        if harm == "missing":
            path.unlink()
        elif harm == "torn":
            path.write_bytes(path.read_bytes()[:100])
        else:
            other = cold_objects.put(settings, p, 0, 0, {"b" * 32: {b"u": b"x"}})
            Path(store.open_store(settings).path(other)).rename(path)
        with pytest.raises(cold_objects.ColdTorn, match=r"cold/generation=0/.*freshet rebuild"):
            worker.tiers[p].warm([action(1, 7).person])
        assert client.get(PLAIN.tombstone(p, action(1, 7).person)) == name.encode()
    worker.close()


def test_a_generation_is_dropped_with_its_cold_people(settings: Settings) -> None:
    lake = store.open_store(settings)
    for generation in (0, 1, 10):
        cold_objects.put(settings, 2, generation, 5, {"a" * 32: {b"u": b"x"}})
    with redis_client.connect(settings) as client:
        client.hset(PLAIN.generations(), "1", "kept")
        client.set(PLAIN.in_generation(1).row(2, "a" * 32), b"x")
        with pytest.raises(ValueError, match="is live"):
            generations.drop(client, settings, 0)
        assert generations.drop(client, settings, 1) == 1
        assert not client.hexists(PLAIN.generations(), "1")
    objects = {it.name.split("/")[1] for it in lake.list("cold")}
    assert objects == {"generation=0", "generation=10"}


def test_a_row_made_again_beside_a_tombstone_is_newer(settings: Settings) -> None:
    send_events(settings, [action(1, 7)])
    worker = open_worker(settings)
    who = action(1, 7).person
    (p,) = {partition_of(who.encode(), 4)}
    with redis_client.connect(settings) as client:
        drive(worker)
        sweep(client, worker)
        client.set(PLAIN.row(p, who), b"newer")
        worker.tiers[p].warm([who])
        assert client.get(PLAIN.row(p, who)) == b"newer"
        assert values_like(client, "t:*") == {}
    worker.close()


def test_a_partition_rebuilt_in_place_has_no_cold_people_and_keeps_the_other_keys(
    settings: Settings,
) -> None:
    send_events(settings, crowd(500))
    worker = open_worker(settings)
    with redis_client.connect(settings) as client:
        drive(worker)
        before = held(client)
        sweep(client, worker)
        client.hset(PLAIN.items(1), "i1", b"{}")
        rest = {it for it in client.scan_iter() if not it.startswith((b"t:{1}", b"tn:{1}"))}
        report = in_place.rebuild(client, settings, 1, Reporter(Console(quiet=True)))
        mine = {name for name in before if b":{1}:" in name}
        assert {name: client.get(name) for name in mine} == {name: before[name] for name in mine}
        assert report["written"] > 10
        assert values_like(client, PLAIN.tombstone(1, "*")) == {}
        assert rest <= {*client.scan_iter()}
    worker.close()


def test_a_lake_that_takes_nothing_stops_the_sweep_and_not_the_flow(settings: Settings) -> None:
    send_events(settings, [action(1, 7)])
    (settings.data_dir).mkdir(parents=True, exist_ok=True)
    (settings.data_dir / "lake").write_text("not a folder")
    worker = open_worker(settings)
    with redis_client.connect(settings) as client:
        drive(worker)
        before = held(client)
        for p in worker.partitions:
            ask(client, p)
            worker.between_batches(p)
        assert held(client) == before
    worker.close()


@pytest.mark.check
def test_an_operator_sweeps_and_a_person_who_returns_is_restored(
    settings: Settings, tmp_path: Path
) -> None:
    settings = own_port(settings)
    ann = pseudonym(*signing_key(settings), "ann")
    made = [action(n, item=f"i{n}", person=ann) for n in range(5)]
    send_events(settings, made)
    p = partition_of(ann.encode(), settings.partitions)
    runner = CliRunner(env=to_environment(settings))
    with (
        redis_client.connect(settings) as client,
        flow(settings, "people", tmp_path / "flow.log"),
        serving(msgspec.structs.replace(settings, metrics_port=0), tmp_path / "log") as server,
    ):

        def folded_to() -> int:
            stored = client.get(PLAIN.fence("people", p))
            return fences.decode(stored).offset if stored else 0

        services.wait_until(lambda: folded_to() == 5, 20, "it is not folded")
        before = held(client)
        assert server.ask("PUT", "/v1/items/i1", {"title": "A film"}).status == 202
        done = runner.invoke(cli, ["cold", "sweep", "--days", "30"])
        assert done.output == "1 people are cold now\n", done.output
        body = server.ask("GET", "/v1/recommendations?user_id=ann").json
        assert body["freshness"]["stale"]
        assert body["freshness"]["last_event_at"] is None
        send_events(settings, [events.Served(person=ann, slate_id="s", placement="home", received_at=T0,
                                     items=("i1",))])  # fmt: skip
        services.wait_until(lambda: folded_to() >= 6, 20, "it is not folded")
        body = server.ask("GET", "/v1/recommendations?user_id=ann").json
        assert not body["freshness"]["stale"]
        assert body["freshness"]["last_event_at"] is not None
        assert client.get(PLAIN.row(p, ann)) == before[PLAIN.row(p, ann)]
        assert "0" in runner.invoke(cli, ["cold", "status"]).output
