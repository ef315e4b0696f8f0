"""`make kafka`: Apache Kafka in the foreground, or a sentence on what it lacks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from infra.local import services
from infra.local.apache_kafka import ApacheKafka
from tests.contract.conftest import quick
from tests.contract.raw import Peer

SECONDS: Final = 90.0


def launched(data: Path, port: int, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "infra.local.apache_kafka", "--data", str(data)]
    return subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("java", "lack"),
    [
        (None, "there is no java"),
        ("11.0.2", "java is older than 17"),
        ("17.0.1", "there is no mvn to fetch Apache Kafka with"),
    ],
)
@quick
def test_what_make_kafka_lacks_is_named(tmp_path: Path, java: str | None, lack: str) -> None:
    if java is not None:
        program = tmp_path / "java"
        program.write_text(f"#!/bin/sh\necho 'openjdk version \"{java}\"' >&2\n")
        program.chmod(0o755)
    paths = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    process = launched(tmp_path / "data", 9092, **paths)
    _, said = process.communicate(timeout=SECONDS)
    needs = f"freshet: Apache Kafka needs Java 17 or newer and Maven, and {lack}: "
    assert (process.returncode, said.count("\n")) == (2, 1)
    assert said.startswith(needs)


@pytest.fixture
def _possible() -> None:
    if reason := ApacheKafka.available():
        pytest.skip(f"Apache Kafka cannot run here: {reason}")


@pytest.mark.usefixtures("_possible")
def test_make_kafka_prints_its_address_and_ctrl_c_stops_it(tmp_path: Path) -> None:
    port = services.free_port(2)
    process: Any = launched(tmp_path / "data", port)
    try:
        line = process.stdout.readline()
        assert line == f"KAFKA_BOOTSTRAP=127.0.0.1:{port}\n", process.stderr.read()
        with Peer(f"127.0.0.1:{port}") as peer:
            assert peer.create("made") == 0
            process.send_signal(signal.SIGINT)
            assert peer.closed(SECONDS)
        assert process.wait(SECONDS) == 0
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)


@pytest.mark.usefixtures("_possible")
def test_a_port_that_something_else_has_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = launched(tmp_path / "data", port)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert said == f"freshet: port {port}, which Apache Kafka needs, cannot be used\n"
