"""The cold tier: who is not seen for long moves to the lake and comes back byte for byte, and no fold
can tell."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from flows import people
from flows.kit import cold as tier
from flows.kit.commit import Fenced
from flows.kit.source import Reader
from infra import cold as objects
from infra import kafka, services, store
from infra.cli.main import cli
from infra.cli.verify_run import verify
from infra.kafka_log import Topics
from infra.lake import store as lakes
from infra.settings import Settings, signing_key, to_environment
from infra.store import Client
from schemas import cold, fence, keys
from schemas import event as events
from schemas.identity import partition_of, pseudonym
from schemas.topics import EVENTS
from tests.flows.faults import traffic
from tests.flows.slates import with_slates
from tests.integration.http import serving
from tests.integration.test_scrape import flow, own_port
from tests.laws.world import T0, action

HELD = (*keys.MOVES, b"h", b"p", b"l", b"dd")
FOREVER = 1 << 52


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks for a sweep before each of its steps, not once a second."""
    monkeypatch.setattr(tier, "LOOK_SECONDS", -1.0)
    monkeypatch.setattr(tier, "SLICE", 40)


def say(settings: Settings, made: Sequence[events.Event]) -> None:
    producer = kafka.producer(settings, linger_ms=20)
    for event in made:
        key = event.person.encode()
        p = partition_of(key, settings.partitions)
        producer.send(EVENTS.name, key=key, value=events.encode(event), partition=p)
    producer.flush()
    producer.close()


def crowd(n: int = 3000, seed: int = 3) -> list[events.Event]:
    rnd = random.Random(seed)
    made = with_slates(traffic(n, 150, rnd), rnd)
    one = made[0].person
    told = events.Preferences(event_id="p", person=one, received_at=T0, hidden_items=("i9",))
    return [*made, told]


def open_worker(settings: Settings) -> people.People:
    return people.People(settings, reader=Reader(settings, EVENTS.name, until_end=True))


def drive(worker: people.People, before_each: Any = lambda p: None) -> None:
    """To the log's end, by hand: a worker whose caches go on from batch to batch."""
    reader = worker.reader
    for p in worker.partitions:
        while reader.position[p] < reader.end[p]:
            if (batch := reader.next(p)) is not None:
                before_each(p)
                good = worker.dead_letters(people.decode(batch))
                worker.commit(worker.fold(worker.dedupe(good)))


def ask(client: Client, partition: int, before: int = FOREVER) -> str:
    asked = cold.Ask(f"{random.random()}", before)
    client.set(keys.cold_asked(partition), cold.encode(asked))
    return asked.id


def sweep(client: Client, worker: people.People, before: int = FOREVER) -> None:
    for p in worker.partitions:
        asked = ask(client, p, before)
        while cold.decode(client.get(keys.cold(p))).done != asked:
            worker.between(p)


def held(client: Client) -> dict[bytes, bytes]:
    """All that is held of people, and the ids seen."""
    names = [name for name in client.keys("*") if name.partition(b":")[0] in HELD]
    return dict(zip(sorted(names), client.mget(sorted(names)), strict=True))


def bring_all_back(client: Client, worker: people.People) -> None:
    for p in worker.partitions:
        names = client.keys(keys.tombstone(p, "*"))
        worker.tiers[p].warm([name.rpartition(b":")[2].decode() for name in names])


def test_everything_per_person_moves_or_is_said_to_stay() -> None:
    of_people = {
        key.pattern.partition(":")[0]
        for key in keys.KEYS
        if key.owner == "people" and key.pattern.endswith(":{*}:*")
    }
    assert {it.encode() for it in of_people} - set(HELD) == {b"t"}


def test_people_move_to_the_lake_and_come_back_byte_for_byte(settings: Settings) -> None:
    say(settings, crowd())
    worker = open_worker(settings)
    with store.connect(settings) as client:
        drive(worker)
        before, fences = held(client), client.mget(client.keys("f:*:people"))
        sweep(client, worker)
        left = held(client)
        assert {name.partition(b":")[0] for name in left} <= {b"h", b"p", b"l", b"dd"}
        cold_now = sum(cold.decode(client.get(keys.cold(p))).people for p in worker.partitions)
        assert (
            cold_now == len(client.keys("t:*")) == len({k for k in before if k[:2] == b"u:"}) > 50
        )
        assert client.mget(client.keys("f:*:people")) == fences, "no record was folded"
        told = verify(settings, Topics(settings), sums=False)
        assert told.mismatches == []
        assert told.people_checked > 50
        bring_all_back(client, worker)
        assert held(client) == before
        assert client.keys("t:*") == []
        assert [cold.decode(client.get(keys.cold(p))).people for p in worker.partitions] == [0] * 4
    worker.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fold_cannot_tell_whoever_is_cold_meanwhile(settings: Settings, seed: int) -> None:
    """Sweeps of whom not, at any point of the log, under a worker whose caches go on."""
    rnd = random.Random(seed)
    say(settings, crowd(seed=seed))
    settings = msgspec.structs.replace(settings, batch=60)
    with store.connect(settings) as client:
        worker = open_worker(settings)
        drive(worker)
        worker.close()
        plain = held(client)
        client.flushall()
        worker = open_worker(settings)
        moved = 0

        def meanwhile(p: int) -> None:
            nonlocal moved
            moved += len(client.keys(keys.tombstone(p, "*")))
            if rnd.random() < 0.5:
                ask(client, p, T0 + rnd.randrange(3_000_000))

        drive(worker, meanwhile)
        bring_all_back(client, worker)
        worker.close()
        assert moved > 100
        assert held(client) == plain


def test_a_kill_between_object_and_tombstones_leaves_an_object_that_is_swept(
    settings: Settings,
) -> None:
    say(settings, crowd(500))
    worker = open_worker(settings)
    with store.connect(settings) as client:
        drive(worker)
        before = held(client)
        orphan = objects.put(settings, 0, 0, 7, {"a" * 32: {b"u": b"x"}})
        assert held(client) == before
        sweep(client, worker)
        lake = lakes.of(settings)
        folder = objects.folder(0, 0)
        assert orphan in {it.name for it in lake.list(folder)}, "somebody may be about to name it"
        named = {name.decode() for name in client.mget(client.keys(keys.tombstone(0, "*")))}
        later = max(it.at for it in lake.list(folder)) + objects.GRACE_SECONDS + 1
        assert objects.sweep(settings, 0, 0, named, later) == 1
        assert {it.name for it in lake.list(folder)} == named
        bring_all_back(client, worker)
        assert held(client) == before
    worker.close()


def test_a_worker_that_is_fenced_moves_nobody(settings: Settings) -> None:
    say(settings, crowd(300))
    worker = open_worker(settings)
    with store.connect(settings) as client:
        drive(worker)
        zombie = open_worker(settings)
        say(settings, [action(9000, 7)])
        (p,) = {partition_of(action(9000, 7).person.encode(), 4)}
        fresh = open_worker(settings)
        drive(fresh)
        before = held(client)
        ask(client, p)
        with pytest.raises(Fenced):
            zombie.between(p)
        assert held(client) == before
        assert client.keys("t:*") == []
        fresh.close()
        zombie.close()
    worker.close()


@pytest.mark.parametrize("harm", ["missing", "torn", "other"])
def test_an_object_that_is_not_what_was_written_stops_the_flow_with_a_sentence(
    settings: Settings, harm: str
) -> None:
    say(settings, [action(1, 7)])
    worker = open_worker(settings)
    (p,) = {partition_of(action(1, 7).person.encode(), 4)}
    with store.connect(settings) as client:
        drive(worker)
        sweep(client, worker)
        name = client.get(keys.tombstone(p, action(1, 7).person)).decode()
        path = Path(lakes.of(settings).path(name))
        if harm == "missing":
            path.unlink()
        elif harm == "torn":
            path.write_bytes(path.read_bytes()[:100])
        else:
            other = objects.put(settings, p, 0, 0, {"b" * 32: {b"u": b"x"}})
            Path(lakes.of(settings).path(other)).rename(path)
        with pytest.raises(objects.ColdTorn, match=r"cold/generation=0/.*freshet rebuild"):
            worker.tiers[p].warm([action(1, 7).person])
        assert client.get(keys.tombstone(p, action(1, 7).person)) == name.encode()
    worker.close()


def test_what_was_made_again_beside_a_tombstone_is_newer(settings: Settings) -> None:
    say(settings, [action(1, 7)])
    worker = open_worker(settings)
    who = action(1, 7).person
    (p,) = {partition_of(who.encode(), 4)}
    with store.connect(settings) as client:
        drive(worker)
        sweep(client, worker)
        client.set(keys.row(p, who), b"newer")
        worker.tiers[p].warm([who])
        assert client.get(keys.row(p, who)) == b"newer"
        assert client.keys("t:*") == []
    worker.close()


def test_a_lake_that_takes_nothing_ends_the_sweep_and_not_the_flow(settings: Settings) -> None:
    say(settings, [action(1, 7)])
    (settings.data_dir).mkdir(parents=True, exist_ok=True)
    (settings.data_dir / "lake").write_text("not a folder")
    worker = open_worker(settings)
    with store.connect(settings) as client:
        drive(worker)
        before = held(client)
        for p in worker.partitions:
            ask(client, p)
            worker.between(p)
        assert held(client) == before
    worker.close()


@pytest.mark.check
def test_an_operator_sweeps_and_whoever_comes_back_is_known_again(
    settings: Settings, tmp_path: Path
) -> None:
    settings = own_port(settings)
    ann = pseudonym(*signing_key(settings), "ann")
    made = [action(n, item=f"i{n}", person=ann) for n in range(5)]
    say(settings, made)
    p = partition_of(ann.encode(), settings.partitions)
    runner = CliRunner(env=to_environment(settings))
    with (
        store.connect(settings) as client,
        flow(settings, "people", tmp_path / "flow.log"),
        serving(msgspec.structs.replace(settings, metrics_port=0), tmp_path / "log") as server,
    ):

        def stands() -> int:
            stored = client.get(keys.fence("people", p))
            return fence.decode(stored).offset if stored else 0

        services.wait_until(lambda: stands() == 5, 20, "it is not folded")
        before = held(client)
        assert server.ask("PUT", "/v1/items/i1", {"title": "A film"}).status == 202
        done = runner.invoke(cli, ["cold", "sweep", "--days", "30"])
        assert done.output == "1 people are cold now\n", done.output
        told = server.ask("GET", "/v1/recommendations?user_id=ann").json
        assert told["freshness"]["stale"]
        assert told["freshness"]["last_event_at"] is None
        say(settings, [events.Served(person=ann, slate_id="s", placement="home", received_at=T0,
                                     items=("i1",))])  # fmt: skip
        services.wait_until(lambda: stands() >= 6, 20, "it is not folded")
        told = server.ask("GET", "/v1/recommendations?user_id=ann").json
        assert not told["freshness"]["stale"]
        assert told["freshness"]["last_event_at"] is not None
        assert client.get(keys.row(p, ann)) == before[keys.row(p, ann)]
        assert "0" in runner.invoke(cli, ["cold", "status"]).output
