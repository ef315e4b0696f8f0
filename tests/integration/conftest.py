from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.kafka import kafka_client
from infra.settings import Settings
from tests.support.http import Server, serving
from tests.support.outage import Broker


@pytest.fixture(scope="module")
def edge(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A serving process shared by a module, on a port of its own."""
    home = tmp_path_factory.mktemp("edge")
    settings = Settings(kafka_bootstrap=broker, redis_url=redis_url, data_dir=home / "data", port=0)
    kafka_client.ensure_topics(settings)
    with serving(settings, home / "log") as server:
        yield server


@pytest.fixture
def broker_of_my_own(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path)
    try:
        yield found
    finally:
        found.process.send_signal(signal.SIGCONT)
        found.kill()


@pytest.fixture
def own(broker_of_my_own: Broker, redis_url: str, tmp_path: Path) -> Settings:
    """Settings with that broker."""
    settings = Settings(
        kafka_bootstrap=broker_of_my_own.address,
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        port=0,
    )
    kafka_client.ensure_topics(settings)
    return settings
