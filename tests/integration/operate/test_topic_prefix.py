"""Installations that share a broker: each has topics of its own, and sees nothing of the others'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from flows.kit.resume import StateMismatch
from flows.verify.run import verify
from infra.cli.main import cli
from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.kafka.offsets import offsets
from infra.kafka.reader import Topics
from infra.lake.reader import Lake
from infra.local import services
from infra.log_reader import OffTheLog
from infra.settings import Settings, to_environment
from infra.store import redis_client
from schemas.topics import EVENTS, TOPICS
from tests.flows.faults import POISON
from tests.support.http import serving
from tests.support.outage import Broker
from tests.support.running import fill_lake, fold_people

PREFIXES = ("", "shop.", "b-")


@pytest.fixture(autouse=True)
def empty(redis_url: str) -> None:
    """Empties Redis, so that it holds no fence of an earlier broker."""
    with redis_client.connect(Settings(redis_url=redis_url)) as client:
        client.flushall()


def freshet(settings: Settings, *words: str) -> str:
    done = CliRunner(env=to_environment(settings)).invoke(cli, words, prog_name="freshet")
    assert done.exit_code == 0, done.output
    return done.stdout


def prefixed(settings: Settings, prefix: str = "shop.") -> Settings:
    return msgspec.structs.replace(settings, topic_prefix=prefix)


def installation(broker: Broker, redis_url: str, home: Path, number: int) -> Settings:
    """One of three on a broker, with a database of Redis and a folder of its own."""
    return Settings(
        kafka_bootstrap=broker.address,
        redis_url=f"{redis_url.removesuffix('/0')}/{number}",
        data_dir=home / str(number),
        port=0,
        topic_prefix=PREFIXES[number],
    )


def view(settings: Settings, item: str, durable: str = "broker") -> None:
    """Posts a view of the item."""
    with serving(settings, settings.data_dir.with_name("log")) as server:
        event = {"user_id": "u1", "item_id": item, "action": "view"}
        answer = server.ask("POST", "/v1/events", event)
        assert (answer.status, answer.json["durable"]) == (202, durable)
        server.stop()


def poison(settings: Settings) -> None:
    producer = kafka_client.producer(settings)
    producer.send(broker_name(settings, EVENTS.name), POISON, key=b"k", partition=2)
    producer.close()


def tail(settings: Settings, topic: str, count: int) -> list[Any]:
    lines = freshet(settings, "tail", topic, "--from-beginning", "-n", str(count), "--json")
    return [json.loads(it) for it in lines.splitlines()]


def count(settings: Settings, topic: str = EVENTS.name) -> int:
    """The number of records that the topic has had."""
    return sum(end for _, end in offsets(settings, [topic])[topic].values())


@pytest.mark.check
def test_each_installation_has_its_own_topics_under_their_usual_names(
    broker_of_my_own: Broker, redis_url: str, tmp_path: Path
) -> None:
    all_ = [installation(broker_of_my_own, redis_url, tmp_path, n) for n in range(3)]
    for number, settings in enumerate(all_):
        assert f"topics: {settings.topic_prefix}events (4), " in freshet(settings, "setup")
        view(settings, f"i{number}")
        poison(settings)
        fold_people(settings)
        fill_lake(settings)
    admin = kafka_client.admin(all_[0])
    names = {prefix + topic.name for prefix in PREFIXES for topic in TOPICS}
    assert set(admin.list_topics()) == names
    admin.close()
    for number, settings in enumerate(all_):
        found = tail(settings, EVENTS.name, 2)
        assert {it["topic"] for it in found} == {EVENTS.name}
        viewed = [it["value"]["item_id"] for it in found if isinstance(it["value"], dict)]
        assert viewed == [f"i{number}"]
        assert count(settings) == 2
        report = verify(settings, Topics(settings))
        assert (report.mismatches, report.events) == ([], 2)
        held = Lake.of(settings)
        assert sum(held.bounds(EVENTS.name, p)[1] for p in range(4)) == 2
        assert (settings.data_dir / "lake" / "manifest" / EVENTS.name).is_dir()


def test_a_dead_letter_is_of_our_topic_and_goes_back_to_its_own(
    broker_of_my_own: Broker, redis_url: str, tmp_path: Path
) -> None:
    plain, shop, _ = (installation(broker_of_my_own, redis_url, tmp_path, n) for n in range(3))
    for settings in (plain, shop):
        kafka_client.ensure_topics(settings)
        settings.data_dir.mkdir()
    poison(shop)
    fold_people(shop)
    (letter,) = tail(shop, "dead-letters", 1)
    assert (letter["key"], letter["value"]["topic"]) == ("events:2:0:0", "events")
    assert count(plain, "dead-letters") == 0
    assert freshet(shop, "dead-letters", "show", "events:2:0")
    sent = json.loads(freshet(shop, "dead-letters", "redrive", "--all", "--json"))
    assert (sent["sent"], count(shop), count(plain)) == (1, 2, 0)
    acts = [it["value"] for it in tail(shop, "audit", 2)]
    assert [(it["route"], it.get("status")) for it in acts] == [
        ("dead-letters redrive", None),
        ("dead-letters redrive", 200),
    ]
    assert acts[0]["targets"] == ["dead-letters:events:2"]
    assert count(plain, "audit") == 0


def test_another_prefix_is_another_log_so_the_state_is_refused(own: Settings) -> None:
    fold_people(own)
    poison(own)
    fold_people(own)
    with pytest.raises(StateMismatch, match=r"the topic id is .*freshet rebuild"):
        fold_people(prefixed(own))


def test_what_an_operator_reads_names_the_topic_as_the_broker_does(own: Settings) -> None:
    shop = prefixed(own)
    kafka_client.ensure_topics(shop)
    with pytest.raises(kafka_client.TopicMismatch, match=r"^topic shop\.events has 4 partitions"):
        kafka_client.ensure_topics(msgspec.structs.replace(shop, partitions=7))
    with pytest.raises(OffTheLog, match=r"^shop\.events partition 1 holds offsets 0 to 0"):
        list(Topics(shop).read(EVENTS.name, 1, 0, 3))


@pytest.mark.check
def test_what_waits_in_the_spool_goes_to_the_topics_of_the_prefix_then(
    broker_of_my_own: Broker, own: Settings
) -> None:
    view(own, "i1")
    broker_of_my_own.kill()
    view(own, "i2", "spool")
    broker_of_my_own.start()
    shop = prefixed(own)
    with serving(shop, own.data_dir.with_name("log")):
        services.wait_until(lambda: count(shop) == 1, 20, "the spool is not drained")
    assert count(own) == 1
