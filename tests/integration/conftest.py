from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra import kafka
from infra.settings import Settings
from tests.integration.http import Server, serving


@pytest.fixture(scope="module")
def edge(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A serving process shared by a module, on a port of its own."""
    home = tmp_path_factory.mktemp("edge")
    settings = Settings(kafka_bootstrap=broker, redis_url=redis_url, data_dir=home / "data", port=0)
    kafka.ensure_topics(settings)
    with serving(settings, home / "log") as server:
        yield server
