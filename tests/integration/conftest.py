from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from infra.kafka import kafka_client
from infra.local import services
from infra.settings import Settings
from tests.conftest import _await, _start, _stop
from tests.support.http import Server, serving
from tests.support.outage import Broker


@pytest.fixture(scope="module")
def edge(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A serving process shared by a module, on a port of its own."""
    home = tmp_path_factory.mktemp("edge")
    settings = Settings(
        kafka_bootstrap=broker, redis_url=redis_url, data_dir=home / "data", port=0, auth="off"
    )
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
        auth="off",
    )
    kafka_client.ensure_topics(settings)
    return settings


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a folder, to be named, in a bucket of the S3 endpoint that the package moto ships; what asks
    for it has credentials in its environment."""
    port, log = services.free_port(), tmp_path_factory.mktemp("s3") / "log"
    command = [
        str(Path(sys.executable).with_name("moto_server")),
        "-H",
        services.HOST,
        "-p",
        str(port),
    ]
    with log.open("wb") as output:
        process: subprocess.Popen[bytes] = _start(command, output.fileno())
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    try:
        _await(lambda: services.port_answers(port), process, log)
        options = f"endpoint_override={services.HOST}:{port}&scheme=http&region=us-east-1"
        made, path = fs.FileSystem.from_uri(f"s3://lake?{options}&allow_bucket_creation=true")
        made.create_dir(path)
        yield f"s3://lake/{{}}?{options}"
    finally:
        patch.undo()
        _stop(process)
