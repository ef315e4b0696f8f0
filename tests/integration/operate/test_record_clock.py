"""A broker takes no record from far ahead; the client of a worker whose clock is off gets a clear error."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka.admin import ConfigResource, ConfigResourceType

from infra.cli.main import cli
from infra.kafka import kafka_client, topic_configs
from infra.local import services
from infra.settings import Settings, to_environment
from schemas.topics import AFTER_MAX, EVENTS, TOPICS
from tests.support.http import serving

VIEW = {"user_id": "u1", "item_id": "i1", "action": "view"}
BEFORE_MAX = "message.timestamp.before.max.ms"
OLDER = f"""
from infra.broker import __main__, codes, configs
from infra.broker.handlers import configs as described, topics
checked = configs.checked_configs
def of_older(given):
    if {AFTER_MAX!r} in given:
        raise codes.Refused(codes.Code.INVALID_CONFIG, "unknown topic config")
    return checked(given)
topics.checked_configs = of_older
described.TOPIC_CONFIGS = {{it: of for it, of in configs.TOPIC_CONFIGS.items() if it != {AFTER_MAX!r}}}
__main__.main()
"""
"""A broker that does not know the config, as Kafka 3.5."""


def configure(settings: Settings, name: str, value: str) -> None:
    client = kafka_client.admin(settings)
    client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, EVENTS.name, {name: value})])
    client.close()


def test_a_write_whose_timestamp_the_broker_refuses_is_a_503_that_names_the_clock(
    settings: Settings, tmp_path: Path
) -> None:
    """The bound is moved to the worker's clock here; the broker's error is the one of a clock ahead."""
    with serving(settings, tmp_path / "log") as server:
        assert server.ask("POST", "/v1/events", VIEW).status == 202
        configure(settings, BEFORE_MAX, "0")
        # the broker takes a record that comes in the millisecond of its timestamp
        answers = (server.ask("POST", "/v1/events", VIEW) for _ in range(1000))
        refused = next(it for it in answers if it.status != 202)
        assert (refused.status, refused.json["code"]) == (503, "clock_off")
        assert "clock of this server" in refused.json["detail"]
        configure(settings, BEFORE_MAX, str(2**62))

        def taken() -> bool:
            answer = server.ask("POST", "/v1/events", VIEW)
            return answer.status == 202 and answer.json["durable"] == "broker"

        services.wait_until(taken, 20, "the broker takes no record again")


def test_every_topic_refuses_what_is_more_than_an_hour_ahead(settings: Settings) -> None:
    client = kafka_client.admin(settings)
    try:
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in TOPICS]
        found = str(client.describe_configs(asked))
        assert found.count(AFTER_MAX) == len(TOPICS)
    finally:
        client.close()
    assert all(topic.config[AFTER_MAX] == "3600000" for topic in TOPICS)


def test_setup_gives_topics_that_exist_the_bound_on_times_ahead(settings: Settings) -> None:
    configure(settings, AFTER_MAX, str(2**62))
    runner = CliRunner(env=to_environment(settings))
    said = runner.invoke(cli, ["setup"], prog_name="freshet").stdout.splitlines()
    assert said[0] == f"topic events: {AFTER_MAX} is 3600000 now, and was {2**62}"
    assert said[1].startswith("topics: events (4), ")
    said = runner.invoke(cli, ["setup"], prog_name="freshet").stdout.splitlines()
    assert [line.partition(" (")[0] for line in said] == ["topics: events"]


def test_a_broker_without_the_config_gets_the_topics_without_it_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = services.free_port()
    command = services.broker_command(port, tmp_path / "data")
    command[1:3] = ["-c", OLDER]
    assert command[0] == sys.executable
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        services.wait_until(lambda: services.port_answers(port), 20, "no broker answers")
        with caplog.at_level(logging.WARNING, "infra.kafka.kafka_client"):
            settings = Settings(kafka_bootstrap=f"{services.HOST}:{port}", data_dir=tmp_path)
            made = kafka_client.ensure_topics(settings)
        assert made.keys() == {topic.name for topic in TOPICS}
        warned = [it for it in caplog.messages if AFTER_MAX in it]
        assert len(warned) == len(TOPICS)
        assert "clock is ahead" in warned[0]
        compared = topic_configs.align(settings)
        assert len(compared) == len(TOPICS)
        assert all("clock is ahead" in sentence for sentence in compared)
    finally:
        process.kill()
        process.wait()
