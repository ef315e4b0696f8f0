"""Redis at maxmemory: the flow ends with a sentence, half a batch is never there, reads go on, and with
more memory all is as if nothing had been."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from flows.kit.commit import StoreFull
from flows.kit.run import run_flow
from flows.kit.source import Reader
from flows.people import dataflow
from infra.kafka import kafka_client
from infra.local import services
from infra.local.plan import child_environment
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from models.features.registry import FEATURES, read_row
from models.reference import recents
from schemas import events
from schemas.alphabet import Pseudonym
from schemas.identity import partition_of
from schemas.keys import PLAIN
from schemas.state import fences
from schemas.topics import EVENTS
from serving.state import generation
from serving.state.people import PersonReader
from tests.flows.faults import traffic, whole_log


@pytest.fixture
def tight(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A Redis of its own, to be filled."""
    port, directory = services.free_port(), tmp_path / "redis"
    directory.mkdir()
    with (tmp_path / "redis.log").open("wb") as log:
        process = subprocess.Popen(services.redis_command(port, directory), stdout=log, stderr=log)
    url = f"redis://{services.HOST}:{port}/0"
    try:
        services.wait_until(lambda: services.redis_answers(url), 20, "no Redis answers")
        yield msgspec.structs.replace(settings, redis_url=url, batch=200)
    finally:
        process.kill()
        process.wait()


def say(settings: Settings, n: int) -> None:
    producer = kafka_client.producer(settings, linger_ms=20)
    for made in traffic(n, 300, random.Random(5)):
        key = made.person.encode()
        p = partition_of(key, settings.partitions)
        producer.send(EVENTS.name, key=key, value=events.encode(made), partition=p)
    producer.flush()
    producer.close()


def fold(settings: Settings) -> None:
    worker = dataflow.People(settings, reader=Reader(settings, EVENTS.name, until_end=True))
    try:
        run_flow(dataflow.dataflow(worker))
    finally:
        worker.close()


def wrong(settings: Settings, client: Client, whole: bool) -> int:
    """Fields of people that are not what the log says, up to where each fence stands."""
    count = 0
    for p, records in whole_log(settings).items():
        stored = client.get(PLAIN.fence("people", p))
        at = fences.decode(stored).offset if stored else 0
        count += whole and at != len(records)
        by_person = recents.by_person([(o, events.decode(v)) for o, v in records if o < at])
        for who, mine in by_person.items():
            row = read_row(client.get(PLAIN.row(p, who)))
            count += sum(it.value(row) != it.reference(mine) for it in FEATURES)
    return count


def test_it_fills_up_in_the_middle_and_goes_on_where_it_was(tight: Settings) -> None:
    say(tight, 6000)
    with redis_client.connect(tight) as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + 700_000)
        with pytest.raises(StoreFull, match=r"Redis is full .* offset .*CONFIG SET maxmemory"):
            fold(tight)
        stood = sum(fences.decode(client.get(k)).offset for k in client.keys("f:*:people"))
        assert 0 < stood < 6000
        assert client.keys("f:*:torn") == []
        assert wrong(tight, client, whole=False) == 0
        client.config_set("maxmemory", 0)
        fold(tight)
        assert wrong(tight, client, whole=True) == 0


def test_the_process_ends_with_a_sentence_and_reads_go_on(tight: Settings, tmp_path: Path) -> None:
    say(tight, 400)
    fold(tight)
    say(tight, 50)
    with redis_client.connect(tight) as client:
        client.config_set("maxmemory", 1)
        for name in ("people", "rollup"):
            done = subprocess.run(
                [sys.executable, "-m", "infra.cli", "flows", "run", name],
                env=child_environment(tight),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 1, done.stderr
            assert "freshet: Redis is full (maxmemory)" in done.stderr.splitlines()[-1]
        (row, *_) = client.keys("u:*")
    p, who = int(row.split(b"{")[1][:1]), row.rpartition(b":")[2].decode()
    assert asyncio.run(read(tight, Pseudonym(who), p)) > 0
    assert (tight.data_dir / "ends" / "people-0").read_text() == "full\n"


async def read(settings: Settings, who: Pseudonym, partition: int) -> int:
    """Also whoever asks whether the process is ready hears yes."""
    client = redis_client.connect_async(settings)
    follows = generation.Generation(client, settings.keyspace)
    await follows._try_refresh()
    assert follows.ready
    found = await PersonReader(client, follows).read(who, partition)
    await client.aclose()
    return int(found.row["newest"])
