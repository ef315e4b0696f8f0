"""A topic that is recreated under a running flow, and has grown past the flow's position."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from infra.kafka import kafka_client
from infra.local import services
from infra.settings import Settings
from infra.store import generation, redis_client
from schemas.state import fences
from schemas.topics import EVENTS
from tests.flows.faults import produce, spawn, traffic, wait

pytestmark = [pytest.mark.on_cluster, pytest.mark.check, pytest.mark.timeout(90)]


def test_a_flow_stops_once_its_topic_was_recreated(settings: Settings, tmp_path: Path) -> None:
    log, rnd = tmp_path / "people.log", random.Random(5)
    process = spawn(settings, "people", log)
    try:
        with redis_client.connect(settings) as client:
            keyspace = generation.live_keys(client, settings)
            produce(settings, traffic(40, 20, rnd), rnd, lambda n: None)

            def unread() -> str:
                names = [keyspace.fence("people", p) for p in range(settings.partitions)]
                held = redis_client.mget(client, names)
                offsets = [fences.decode(it).offset if it else 0 for it in held]
                return "" if sum(offsets) >= 40 else f"fences {offsets}"

            wait(unread, lambda: None)
            process.send_signal(signal.SIGSTOP)  # so that the flow misses that the log was shorter
            admin = kafka_client.admin(settings)
            admin.delete_topics([EVENTS.name])
            admin.close()
            kafka_client.ensure_topics(settings)
            produce(settings, traffic(2_000, 200, rnd), rnd, lambda n: None)
            process.send_signal(signal.SIGCONT)

            def more() -> bool:
                produce(settings, traffic(20, 20, rnd), rnd, lambda n: None)
                return process.poll() is not None

            services.wait_until(more, 40, "the flow reads on")
        assert process.returncode == 1
        assert "was recreated" in log.read_text()
    finally:
        process.kill()
        process.wait()
