"""One boundary maps our topics to the broker's names, and no module bypasses it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.kafka.names import broker_name, own_name, topic_partition
from infra.settings import Settings, from_environment, to_environment
from schemas.topics import TOPICS

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("schemas", "models", "infra", "flows", "serving")
MOST_LETTERS = 249
"""The longest name of a topic in Kafka."""
NAMES = [topic.name for topic in TOPICS]
TAKE_A_TOPIC = {
    "send": 2,
    "partitions_for": 1,
    "partitions_for_topic": 1,
    "describe_topics": 1,
    "create_partitions": 1,
    "delete_topics": 1,
    "subscribe": 1,
    "NewTopic": 1,
}
"""Functions of kafka-python, and of how many arguments a call is one of theirs: a pipe's `send` has one."""
OTHER_SENDERS = ("history", "connection", "self._connection", "link.connection")
"""`infra.client.history` sends over HTTP, and the connections of `infra.kafka` bytes."""


@pytest.mark.parametrize("prefix", ["", "shop.", "b-", "events", 32 * "x"])
def test_a_name_goes_to_the_broker_and_comes_back(prefix: str) -> None:
    settings = from_environment({"FRESHET_TOPIC_PREFIX": prefix})
    assert from_environment(to_environment(settings)).topic_prefix == prefix
    for topic in NAMES:
        name = broker_name(settings, topic)
        assert (name, own_name(settings, name)) == (prefix + topic, topic)
        assert len(name) <= MOST_LETTERS
        assert topic_partition(settings, topic, 3) == (name, 3)


def test_without_a_prefix_names_stay_as_they_are() -> None:
    assert [broker_name(Settings(), topic) for topic in NAMES] == NAMES


def test_the_topic_of_another_installation_is_none_of_ours() -> None:
    with pytest.raises(ValueError, match="does not begin with FRESHET_TOPIC_PREFIX"):
        own_name(Settings(topic_prefix="shop."), "events")


def test_two_prefixes_never_make_one_name() -> None:
    """p + a == q + b only where one name is the end of the other."""
    assert [(a, b) for a in NAMES for b in NAMES if a != b and a.endswith(b)] == []


def bypasses(source: str) -> Iterator[int]:
    """The lines in which something else than a broker's name is given to kafka-python as a topic.

    A broker's name is what `broker_name` answers, or a variable `name`, `names` or `self._name`.
    """
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        owner, _, called = ast.unparse(call.func).rpartition(".")
        given = {it.arg: it.value for it in call.keywords}
        of_kafka = len(call.args) + len(given) >= TAKE_A_TOPIC.get(called, 99)
        of_kafka = of_kafka and owner not in OTHER_SENDERS
        topic = call.args[0] if call.args else given.get("topic", given.get("name"))
        if called == "TopicPartition" or (of_kafka and not is_broker_name(topic)):
            yield call.lineno


def is_broker_name(topic: ast.expr | None) -> bool:
    match topic:
        case ast.Call(func=ast.Name(id="broker_name")):
            return True
        case ast.Name(id="name" | "names") | ast.Attribute(ast.Name(id="self"), "_name"):
            return True
        case ast.List(elts=found):
            return all(map(is_broker_name, found))
    return False


CLIENTS = re.compile(r"^ *(from kafka import|from infra\.kafka)", re.MULTILINE)


def test_no_module_bypasses_the_boundary() -> None:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            where, text = path.relative_to(ROOT).as_posix(), path.read_text()
            if CLIENTS.search(text) and where != "infra/kafka/names.py":
                found += [f"{where}:{line}" for line in bypasses(text)]
    assert found == []


@pytest.mark.parametrize(
    "bad",
    [
        "TopicPartition(name, 0)",
        "producer.send(EVENTS.name, key=b'k', value=b'v')",
        "producer.send('events', b'v')",
        "producer.send(topic, b'v')",
        "consumer.partitions_for_topic(letter.topic)",
        "client.describe_topics([EVENTS.name])",
        "NewTopic(name=topic.name, num_partitions=1)",
    ],
)
def test_the_check_finds_a_bypass(bad: str) -> None:
    assert list(bypasses(bad)) == [1]
