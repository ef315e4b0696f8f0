"""`docker-compose.yml` without Docker: every command in it is run, in every environment it gives.

Only hosts, ports and paths are other ones: a service's name becomes 127.0.0.1, a volume a folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from infra.apps.inspect.scrape import scrape
from infra.client.client import Client
from infra.client.history import await_items
from infra.kafka import kafka_client
from infra.local import apache_kafka, kafka_jars, services
from infra.local.plan import ROOT
from infra.local.supervisor import Program, Supervisor
from infra.settings import VARIABLES, Settings
from infra.store import version
from schemas.events import EventIn
from schemas.items import ItemIn
from tests.support.waits import until

GIVEN: Final = {"FRESHET_TOKEN": "compose-token-of-16"}
"""Variables that the operator must set."""
VARIABLE: Final = r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}"
# where the image keeps its own switches, which are no property of the broker
NO_PROPERTY: Final = {"CLUSTER_ID"}
PROPERTIES: Final = {
    "node.id",
    "process.roles",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "inter.broker.listener.name",
    "controller.listener.names",
    "controller.quorum.voters",
    "log.dirs",
    "auto.create.topics.enable",
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "transaction.state.log.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "share.coordinator.state.topic.min.isr",
    "group.initial.rebalance.delay.ms",
}
"""Names as Apache Kafka documents them (https://kafka.apache.org/documentation/#brokerconfigs)."""


def compose(given: Mapping[str, str] = GIVEN, profile: str | None = None) -> dict[str, Any]:
    """The services, with variables filled in as Docker does: in values, after parsing. Those of no
    profile, or those of `profile` alone."""

    def fill(match: re.Match[str]) -> str:
        name, kind, text = match["name"], match["kind"], match["text"]
        if given.get(name):
            return given[name]
        if kind == "?":
            raise KeyError(f"{name}: {text}")
        return text or ""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(it) for key, it in value.items()}
        if isinstance(value, list):
            return [filled(it) for it in value]
        return re.sub(VARIABLE, fill, value) if isinstance(value, str) else value

    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return {
        name: it
        for name, it in filled(loaded["services"]).items()
        if it.get("profiles", [None]) == [profile]
    }


def properties(environment: Mapping[str, object]) -> dict[str, str]:
    """Variables as the image's script turns them into server.properties (docker/examples/README.md
    of Apache Kafka): ``_`` is a dot, ``__`` an underscore, ``___`` a dash."""

    def name(variable: str) -> str:
        text = variable.removeprefix("KAFKA_").lower()
        for long, short in (("___", "-"), ("__", "\0"), ("_", "."), ("\0", "_")):
            text = text.replace(long, short)
        return text

    mine = {key: str(value) for key, value in environment.items() if key not in NO_PROPERTY}
    assert all(key.startswith("KAFKA_") for key in mine)
    return {name(key): value for key, value in mine.items()}


def ours() -> dict[str, Any]:
    return {name: it for name, it in compose().items() if it["image"] == "freshet"}


Ports = dict[str, int]


@pytest.fixture
def ports() -> Ports:
    shared = ("kafka:9092", "redis:6379", "8080")
    # every container has port 9464 for itself, this machine has it once
    return {name: services.free_port() for name in (*shared, *(f"9464 {it}" for it in ours()))}


@pytest.fixture
def programs(ports: Ports, tmp_path: Path) -> list[Program]:
    """The services of the compose file as processes here; Kafka is the embedded broker."""

    def here(text: str) -> str:
        for name, port in ports.items():
            text = text.replace(name, f"127.0.0.1:{port}" if ":" in name else str(port))
        return text.replace("/data", str(tmp_path / "data"))

    def checked(test: list[str], environment: Mapping[str, str]) -> Callable[[], bool]:
        assert test[0] == "CMD"
        command = [sys.executable if word == "python" else here(word) for word in test[1:]]
        return lambda: (
            subprocess.run(
                command, env=dict(environment), capture_output=True, cwd=ROOT, check=False
            ).returncode
            == 0
        )

    made: list[Program] = []
    for name, it in compose().items():
        environment = {key: here(str(value)) for key, value in it.get("environment", {}).items()}
        if "FRESHET_METRICS_PORT" in environment:
            port = environment["FRESHET_METRICS_PORT"]
            environment["FRESHET_METRICS_PORT"] = str(ports[f"{port} {name}"])
        whole = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
        ready: Callable[[], bool] | None = None
        if name == "kafka":
            (tmp_path / "broker").mkdir()
            command = services.broker_command(ports["kafka:9092"], tmp_path / "broker")
            ready = partial(services.port_answers, ports["kafka:9092"])
        elif name == "redis":
            command = [services.redis_binary(), *it["command"][1:]]
            (tmp_path / "redis").mkdir()
            command += ["--port", str(ports["redis:6379"]), "--dir", str(tmp_path / "redis")]
            ready = partial(services.redis_answers, f"redis://127.0.0.1:{ports['redis:6379']}")
        else:
            assert it["command"][0] == "freshet"
            command = [sys.executable, "-m", "infra.cli", *it["command"][1:]]
            if "healthcheck" in it:
                ready = checked(it["healthcheck"]["test"], whole)
        # only what the file gives, none of this test's own environment
        bare = ["env", "-i", *(f"{key}={value}" for key, value in whole.items()), *command]
        waits = it.get("depends_on", {})
        once = name == "setup"
        made.append(Program(name, bare, list(waits), ready, once))
    return made


@pytest.fixture
def running(programs: list[Program], tmp_path: Path) -> Iterator[Supervisor]:
    logs = tmp_path / "logs"
    logs.mkdir()
    supervisor = Supervisor(programs, logs, {"PATH": os.environ["PATH"]})

    def up() -> bool:
        supervisor.tick()
        assert not supervisor.failure, supervisor.failure
        return supervisor.was_ready

    try:
        until(up, 90)
        yield supervisor
    finally:
        supervisor.stop()


def test_all_services_come_up_and_work_together(running: Supervisor, ports: Ports) -> None:
    url, token = f"http://127.0.0.1:{ports['8080']}", GIVEN["FRESHET_TOKEN"]
    asyncio.run(put_item(url, token))
    await_items(url, ["i1"], token)
    asyncio.run(like_and_read(url, token))
    for name in ours().keys() - {"setup"}:
        samples = scrape("127.0.0.1", ports[f"9464 {name}"])
        assert {it for it in samples if it.startswith("freshet_")}, f"{name} says nothing of itself"
    running.tick()
    assert [it.program.name for it in running.children.values() if not it.is_ready] == []
    assert [it.program.name for it in running.children.values() if it.restarts] == []


async def put_item(url: str, token: str) -> None:
    async with Client(url, token) as client:
        await client.put_item("i1", ItemIn(title="A film", category="Drama"))


async def like_and_read(url: str, token: str) -> None:
    async with Client(url, token) as client:
        sent = await client.send_events([EventIn(user_id="u1", item_id="i1", action="like")])
        assert (sent.value.accepted, sent.value.durable) == (1, "broker")
        (position,) = sent.value.positions
        read = await client.recommendations("u1", after=position, max_wait_ms=5000)
        assert read.value.position == position
        await client.status()


def test_a_service_runs_each_flow_and_each_program() -> None:
    from schemas.flows import BY_NAME

    commands = {name: it["command"] for name, it in ours().items()}
    assert commands == {
        "setup": ["freshet", "setup"],
        "serving": ["freshet", "serve"],
        "lake-keeper": ["freshet", "lake", "keep"],
        **{flow: ["freshet", "flows", "run", flow] for flow in BY_NAME},
    }


def test_what_trains_is_an_image_of_its_own() -> None:
    (it,) = compose(profile="train").values()
    assert it["command"] == ["freshet", "train"]
    assert it["build"]["args"] == {"LOCK": "train.txt"}
    assert (it["image"], it["restart"]) == ("freshet-train", "no")
    assert it["environment"] == ours()["people"]["environment"]
    assert all("args" not in other["build"] for other in ours().values())


def test_every_setting_exists_and_is_the_same_in_each_service() -> None:
    for name, it in ours().items():
        assert set(it["environment"]) <= set(VARIABLES.values()), name
    same = ("KAFKA_BOOTSTRAP", "REDIS_URL", "FRESHET_PARTITIONS", "FRESHET_METRICS_PORT")
    for variable in same:
        assert len({str(it["environment"][variable]) for it in ours().values()}) == 1


def test_the_api_does_not_start_without_a_token() -> None:
    with pytest.raises(KeyError, match="FRESHET_TOKEN: give the API a token"):
        compose({})


def test_services_wait_for_what_they_need() -> None:
    healthy, done = "service_healthy", "service_completed_successfully"
    services_ = compose()
    for name, it in ours().items():
        waits = {need: how["condition"] for need, how in it["depends_on"].items()}
        if name == "setup":
            assert waits == {"kafka": healthy, "redis": healthy}
        else:
            assert waits == {"setup": done}
    assert all("healthcheck" in services_[name] for name in ("kafka", "redis", "serving"))
    assert all(
        port.startswith("127.0.0.1:") for it in services_.values() for port in it.get("ports", ())
    )


def tag(service: dict[str, Any]) -> str:
    """Of its image, without the digest that pins it."""
    image: str = service["image"]
    return image.partition("@")[0]


def test_the_dashboard_is_for_who_asks_and_on_this_machine_only() -> None:
    watching = compose(profile="metrics")
    assert set(watching) == {"prometheus", "grafana"}
    for it in watching.values():
        assert re.fullmatch(r"(prom|grafana)/\w+:v?\d+\.\d+\.\d+", tag(it))
        assert all(port.startswith("127.0.0.1:") for port in it["ports"])
        assert all((ROOT / m.split(":")[0]).is_dir() for m in it["volumes"] if m[0] == ".")
        assert all(m.endswith(":ro") for m in it["volumes"] if m[0] == ".")


def test_redis_keeps_what_it_is_given() -> None:
    it = compose()["redis"]
    assert re.fullmatch(r"redis:[\d.]+-alpine", tag(it))
    assert version.parse(tag(it)) >= version.MIN_VERSION
    # the flags of `freshet up`, but for where it listens and keeps its files
    words = services.redis_command(1, Path("x"))[1:]
    mine = dict(zip(words[::2], words[1::2], strict=True))
    for option in ("--bind", "--port", "--dir", "--daemonize", "--loglevel"):
        del mine[option]
    given = it["command"][1:]
    assert dict(zip(given[::2], given[1::2], strict=True)) == mine


def test_kafka_is_the_version_that_the_contract_is_tested_with() -> None:
    it = compose()["kafka"]
    assert tag(it) == f"apache/kafka:{kafka_jars.VERSION}"
    server_properties = properties(it["environment"])
    assert set(server_properties) == PROPERTIES
    # a cluster id is 16 bytes in base64; one that starts with a dash is read as an option
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", it["environment"]["CLUSTER_ID"])
    assert it["volumes"] == [f"kafka:{server_properties['log.dirs']}"]
    bootstrap = ours()["people"]["environment"]["KAFKA_BOOTSTRAP"]
    assert f"PLAINTEXT://{bootstrap}" in server_properties["advertised.listeners"].split(",")


@pytest.mark.check
def test_apache_kafka_starts_with_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := apache_kafka.ApacheKafka.available():
        pytest.skip(f"no Apache Kafka here: {reason}")
    port, outside = services.free_port(2), services.free_port()
    data = tmp_path / "kafka"
    lines = []
    for name, value in properties(compose()["kafka"]["environment"]).items():
        for there, here in (("9092", port), ("9093", port + 1), ("9094", outside)):
            value = value.replace(f":{there}", f":{here}")
        value = value.replace("kafka:", "127.0.0.1:").replace("//:", "//127.0.0.1:")
        lines.append(f"{name}={str(data / 'logs') if name == 'log.dirs' else value}")
    monkeypatch.setattr(apache_kafka, "server_properties", lambda *_: "\n".join(lines) + "\n")
    node = apache_kafka.ApacheKafka(data, port)
    try:
        settings = Settings(kafka_bootstrap=node.start(), partitions=16)
        found = kafka_client.ensure_topics(settings)
        assert found["events"].partitions == 16
        assert services.port_answers(outside)
    finally:
        node.stop()


def test_the_image_has_all_that_the_commands_need() -> None:
    text = (ROOT / "infra" / "deploy" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (\S+) (\S+)$", text, re.MULTILINE)
    assert all((ROOT / source).exists() and source == target for source, target in copied)
    assert {source for source, _ in copied} >= {"schemas", "models", "infra", "flows", "serving"}
    assert "infra/lock" in {source for source, _ in copied}
    assert '--require-hashes -r "infra/lock/$LOCK"' in text
    assert "ARG LOCK=run.txt" in text
    assert re.search(r"^FROM python:3\.1[12]-slim-\w+ AS packages$", text, re.MULTILINE)
    assert "USER freshet" in text
    allowed = (ROOT / "infra" / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in allowed if line.startswith("!")} >= {
        source.partition("/")[0] for source, _ in copied
    }
    script = re.search(r"printf '(.*)' > /usr/local/bin/freshet", text)
    assert script
    assert script[1] == r'#!/bin/sh\nexec python -m infra.cli "$@"\n'


def test_each_service_builds_the_same_image() -> None:
    built = {json.dumps(it["build"]) for it in ours().values()}
    assert built == {json.dumps({"context": ".", "dockerfile": "infra/deploy/Dockerfile"})}
    assert (ROOT / "infra/deploy/Dockerfile").is_file()
