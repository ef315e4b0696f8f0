"""A broker that a test stops, and a ledger of the writes that clients had acknowledged."""

from __future__ import annotations

import subprocess
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
from kafka import TopicPartition

from infra.kafka import kafka_client
from infra.local import services
from infra.settings import Settings, signing_key
from schemas import events as event
from schemas.identity import pseudonym
from tests.support.http import Answer, Server, ask


class Broker:
    """A broker of a test's own, which the test stops and starts."""

    def __init__(self, home: Path) -> None:
        self.port, self._home = services.free_port(), home
        self.address = f"127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            services.broker_command(self.port, self._home / "broker"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        services.wait_until(lambda: services.port_answers(self.port), 20, "no broker answers")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Ledger:
    """Acknowledged writes in the order of acknowledgement: person -> event ids."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.acknowledged: dict[str, list[str]] = {}
        self.sent: set[str] = set()
        self.durable: list[str] = []

    def send(self, server: Server, n: int, people: int = 3, batch: int = 1) -> None:
        """Sends n requests over one connection, one person after the other; all must be accepted."""
        connection = server.connect()
        for _ in range(n):
            answer = self.try_one(connection, f"u{len(self.durable) % people}", batch)
            assert answer.status == 202, answer.body
        connection.close()

    def try_one(self, connection: HTTPConnection, user: str, batch: int = 1) -> Answer:
        first = len(self.sent)
        ids = [f"e{first + i}" for i in range(batch)]
        events = [
            {"user_id": user, "item_id": "i1", "action": "view", "event_id": name} for name in ids
        ]
        self.sent.update(ids)
        answer = ask(connection, "POST", "/v1/events", {"events": events})
        if answer.status == 202:
            receipt = answer.json
            assert receipt["accepted"] == batch
            assert bool(receipt["positions"]) == (receipt["durable"] == "broker")
            self.acknowledged.setdefault(user, []).extend(ids)
            self.durable.append(receipt["durable"])
        return answer

    def check(self) -> dict[str, list[str]]:
        """Waits until all that was acknowledged is in the log. There is nothing else in it than what was
        sent, and each person's events stand in the order of their acknowledgement. Answers each person's
        ids as they stand there, those twice that are there twice."""
        key, found = signing_key(self.settings), dict[str, list[str]]()

        def come() -> bool:
            found.clear()
            found.update(log_of_people(self.settings))
            return all(
                set(ids) <= set(found.get(pseudonym(*key, user), []))
                for user, ids in self.acknowledged.items()
            )

        services.wait_until(come, 30, "not all that was acknowledged is in the log")
        assert {name for ids in found.values() for name in ids} <= self.sent
        for user, ids in self.acknowledged.items():
            there = list(dict.fromkeys(found[pseudonym(*key, user)]))
            assert [name for name in there if name in set(ids)] == ids, "the order of a person"
        return found


def log_of_people(settings: Settings) -> dict[str, list[str]]:
    """Person -> ids of their actions, in the order of the log."""
    found: dict[str, list[str]] = {}
    for record in whole(settings, "events"):
        decoded = event.decode(record.value, record.timestamp)
        assert record.key == decoded.person.encode()
        if isinstance(decoded, event.Action):
            found.setdefault(decoded.person, []).append(decoded.event_id)
    return found


def whole(settings: Settings, topic: str) -> list[Any]:
    """Every record of a topic, partition after partition."""
    consumer = kafka_client.consumer(settings, max_poll_records=5000)
    try:
        places = [TopicPartition(topic, p) for p in range(settings.partitions)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        end_offsets = consumer.end_offsets(places)
        found: list[Any] = []
        while any(consumer.position(place) < end for place, end in end_offsets.items()):
            found += [it for records in consumer.poll(200).values() for it in records]
        return sorted(found, key=lambda it: (it.partition, it.offset))
    finally:
        consumer.close()


def spools(settings: Settings) -> list[Path]:
    return [path for path in (settings.data_dir / "writes").iterdir() if path.is_dir()]


def bounded(settings: Settings, size: int) -> Settings:
    return msgspec.structs.replace(settings, write_spool_bytes=size)
