"""A serving process of a test's own, and the plainest client for it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, NamedTuple

from kafka import TopicPartition

from infra import tokens
from infra.kafka import kafka_client
from infra.local import services
from infra.settings import Settings, to_environment
from schemas.alphabet import Position
from tests.support.started import start

JSON: Final = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def errors(self) -> list[tuple[str, str]]:
        return [(error["field"], error["code"]) for error in self.json["errors"]]


class Server:
    """`freshet serve`, its log in a file."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self.log = log
        log.write_bytes(b"")
        self.process = start("infra.cli", "serve", environment=to_environment(settings), log=log)

    def wait(self) -> None:
        """Waits until the server takes requests."""
        services.wait_until(
            lambda: self.process.poll() is not None or "listening" in self.log.read_text(),
            30,
            "the server does not listen",
        )
        assert self.process.poll() is None, self.log.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def connect(self) -> HTTPConnection:
        address = self.log.read_text().partition("listening http://")[2].split()[0]
        host, _, port = address.rpartition(":")
        return HTTPConnection(host, int(port), timeout=30)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """As the function `ask`; with a token, unless `headers` have one, or "" for none."""
        connection = self.connect()
        try:
            return ask(connection, method, path, body, self.headers(headers))
        finally:
            connection.close()

    def headers(self, given: Mapping[str, str] | None = None) -> dict[str, str]:
        """`given`, and a token with every scope."""
        token = tokens.held(self.settings)
        found = {"Authorization": f"Bearer {token}"} if token else {}
        return {**found, **(given or {})}

    def rss(self) -> int:
        """Resident memory of the process, bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def ask(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """`body` is sent as it is where it is bytes, else as JSON; with the type of JSON, unless `headers` have
    another one. One that is "" is not sent."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    given = {**({} if body is None else JSON), **(headers or {})}
    connection.request(method, path, content, {name: it for name, it in given.items() if it})
    answer = connection.getresponse()
    return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def metric(server: Server, name: str) -> float:
    """A series without labels, as the process exports it now."""
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


@contextmanager
def serving(settings: Settings, log: Path) -> Iterator[Server]:
    server = Server(settings, log)
    try:
        server.wait()
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def record_at(settings: Settings, topic: str, position: str) -> Any:
    """The record of a topic at a position."""
    at = Position.parse(position)
    consumer = kafka_client.consumer(settings)
    try:
        place = TopicPartition(topic, at.partition)
        consumer.assign([place])
        consumer.seek(place, at.offset)
        until = time.monotonic() + 10
        while not (found := consumer.poll(100).get(place)):
            assert time.monotonic() < until, "the record does not come"
        return found[0]
    finally:
        consumer.close()


def end_offset(settings: Settings, topic: str) -> int:
    """The sum of the end offsets of a topic's partitions."""
    consumer = kafka_client.consumer(settings)
    try:
        places = [TopicPartition(topic, p) for p in range(settings.partitions)]
        return sum(consumer.end_offsets(places).values())
    finally:
        consumer.close()
