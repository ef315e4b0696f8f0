"""Five kill -9, a zombie, 5 % doubled and shuffled deliveries: nothing lost, doubled or wrong.

Slates and their outcomes are among the traffic, so the law holds for arms and experiments too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infra.kafka import kafka_client
from infra.local import services
from infra.local.apache_kafka import ApacheKafka
from infra.settings import Settings
from infra.store import redis_client
from schemas import dead_letters
from schemas.state.tables import ARM
from schemas.topics import DEAD_LETTERS
from tests.flows.faults import (
    Flow,
    behind,
    produce,
    spawn,
    stored_tables,
    traffic,
    wait,
    whole_log,
    wrong,
)
from tests.flows.slates import with_slates
from tests.support.whole import whole_only

pytestmark = [pytest.mark.check, pytest.mark.timeout(240)]
EVENTS_SENT, RATE = 12_000, 3_000


@pytest.fixture(params=["embedded", pytest.param("apache", marks=whole_only)])
def settings_on(
    request: pytest.FixtureRequest, redis_url: str, tmp_path: Path
) -> Iterator[Settings]:
    made = Settings(
        redis_url=redis_url, data_dir=tmp_path / "data", rollup_seconds=0.2, base_seconds=0.5
    )
    with redis_client.connect(made) as client:
        client.flushall()
    if request.param == "embedded":
        fresh: Settings = request.getfixturevalue("settings")
        yield with_bootstrap(made, fresh.kafka_bootstrap)
        return
    why_not = ApacheKafka.available()
    if why_not:
        pytest.skip(why_not)
    node = ApacheKafka(tmp_path / "kafka", services.free_port(2))
    try:
        yield with_bootstrap(made, node.start())
    finally:
        node.stop()


def with_bootstrap(settings: Settings, bootstrap: str) -> Settings:
    import msgspec

    return msgspec.structs.replace(settings, kafka_bootstrap=bootstrap)


def test_kills_a_zombie_and_doubled_shuffled_deliveries_lose_and_double_nothing(
    settings_on: Settings, tmp_path: Path
) -> None:
    settings = settings_on
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rnd = random.Random(seed)
    kafka_client.ensure_topics(settings)
    log = tmp_path / "flows.log"
    people, rollup = Flow(settings, "people", log), Flow(settings, "rollup", log)
    kills = sorted(rnd.sample(range(1000, EVENTS_SENT), 5))
    zombies = []
    begun = time.monotonic()

    def revive() -> None:
        people.revive()
        rollup.revive()

    def meanwhile(n: int) -> None:
        if n % 100 == 0:
            time.sleep(max(0.0, begun + n / RATE - time.monotonic()))
            revive()
        if kills and n >= kills[0]:
            kills.pop(0)
            people.kill()
            rollup.kill()
            people.start()
            rollup.start()
            if len(kills) == 2:
                zombies.append(spawn(settings, "people", log))

    try:
        made = with_slates(traffic(EVENTS_SENT, 300, rnd), rnd)
        sent = produce(settings, made, rnd, meanwhile)
        with redis_client.connect(settings) as client:
            wait(lambda: behind(settings, client), revive)
        assert sum(map(len, whole_log(settings).values())) == sent
        found = wrong(settings)
        assert not any(found.values()), found
        assert people.starts >= 6
        with redis_client.connect(settings) as client:
            tables = stored_tables(client)
        assert tables is not None
        arms = np.frombuffer(b"".join(tables.arms.publish(whole=True).values()), ARM)
        assert arms["clicked"].sum() > 500
        letters = {key for key, _ in read_letters(settings)}
        assert len(letters) == len(range(77, len(made), 3000))
    finally:
        for process in [people.process, rollup.process, *zombies]:
            process.kill()
            process.wait()


def read_letters(settings: Settings) -> list[tuple[bytes, dead_letters.DeadLetter]]:
    from kafka import TopicPartition

    consumer = kafka_client.consumer(settings)
    tp = TopicPartition(DEAD_LETTERS.name, 0)
    consumer.assign([tp])
    consumer.seek_to_beginning()
    end, found = consumer.end_offsets([tp])[tp], []
    while consumer.position(tp) < end:
        for records in consumer.poll(500).values():
            found += [(r.key, dead_letters.decode(r.value)) for r in records]
    consumer.close()
    return found
