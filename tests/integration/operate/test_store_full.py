"""Redis at maxmemory: the flow stops with a sentence, half a batch is never there, reads go on, and with
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
from infra.local import services
from infra.local.plan import child_environment
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from models.features.registry import FEATURES, read_row
from models.reference import recents
from schemas import events
from schemas.alphabet import Pseudonym
from schemas.keys import PLAIN
from schemas.state import fences
from serving.state import generation
from serving.state.log_end import LogEnd
from serving.state.people import PersonReader
from tests.flows.faults import Flow, traffic, wait, whole_log
from tests.support.running import fold_people, send_events


@pytest.fixture
def small_redis(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
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


def wrong_fields(settings: Settings, client: Client, whole: bool) -> int:
    """Fields of people that are not what the log says, up to where each fence stands."""
    count = 0
    for p, records in whole_log(settings).items():
        stored = client.get(PLAIN.fence("people", p))
        at = fences.decode(stored).offset if stored else 0
        count += whole and at != len(records)
        by_person = recents.by_person([(o, events.decode_stored(v)) for o, v in records if o < at])
        for who, mine in by_person.items():
            row = read_row(client.get(PLAIN.row(p, who)))
            count += sum(it.value(row) != it.reference(mine) for it in FEATURES)
    return count


def test_a_flow_whose_store_fills_up_resumes_from_its_fence(small_redis: Settings) -> None:
    send_events(small_redis, traffic(6000, 300, random.Random(5)))
    with redis_client.connect(small_redis) as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + 700_000)
        with pytest.raises(StoreFull, match=r"Redis is full .* offset .*CONFIG SET maxmemory"):
            fold_people(small_redis)
        stood = sum(fences.decode(client.get(k)).offset for k in client.keys("f:*:people"))
        assert 0 < stood < 6000
        assert client.keys("f:*:torn") == []
        assert wrong_fields(small_redis, client, whole=False) == 0
        client.config_set("maxmemory", 0)
        fold_people(small_redis)
        assert wrong_fields(small_redis, client, whole=True) == 0


def test_people_waits_for_memory_the_rollup_stops_and_reads_go_on(
    small_redis: Settings, tmp_path: Path
) -> None:
    """Both say why; `people` goes on by itself where its fences stand."""
    send_events(small_redis, traffic(400, 300, random.Random(5)))
    fold_people(small_redis)
    send_events(small_redis, traffic(50, 300, random.Random(5)))
    with redis_client.connect(small_redis) as client:
        client.config_set("maxmemory", 1)
        done = subprocess.run(
            [sys.executable, "-m", "infra.cli", "flows", "run", "rollup"],
            env=child_environment(small_redis),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert "freshet: Redis is full (maxmemory)" in done.stderr.splitlines()[-1]
        log = tmp_path / "people.log"
        log.touch()
        people = Flow(small_redis, "people", log)
        try:
            wait(lambda: "" if "Redis is full (maxmemory)" in log.read_text() else "silent", idle)
            (row, *_) = client.keys("u:*")
            p, who = int(row.split(b"{")[1][:1]), row.rpartition(b":")[2].decode()
            assert asyncio.run(read(small_redis, Pseudonym(who), p)) > 0
            assert "full\n" in (small_redis.data_dir / "ends" / "people-0").read_text()
            client.config_set("maxmemory", 0)
            wait(lambda: str(wrong_fields(small_redis, client, whole=True) or ""), idle)
            assert people.process.poll() is None
            assert log.read_text().count("is out and tried again") <= small_redis.partitions
        finally:
            people.kill()


def idle() -> None:
    """Waits for nothing else."""


async def read(settings: Settings, who: Pseudonym, partition: int) -> int:
    """The time of a person's newest event, as serving reads it; the generation is ready, too."""
    client = redis_client.connect_async(settings)
    follows = generation.Generation(client, settings.keyspace)
    await follows._try_refresh()
    assert follows.ready
    found = await PersonReader(client, follows, LogEnd(settings, ())).read(who, partition)
    await client.aclose()
    return int(found.row["newest"])
