"""The serving process starts and stops cleanly, shares its port, and survives the broker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from infra.local import services
from infra.settings import Settings
from tests.support.http import Server, end_offset, serving

EVENT = {"user_id": "u1", "item_id": "i1", "action": "view"}


def test_sigterm_stops_the_process_without_an_error(settings: Settings, tmp_path: Path) -> None:
    with serving(msgspec.structs.replace(settings, port=0), tmp_path / "log") as server:
        assert server.ask("POST", "/v1/events", EVENT).status == 202
        assert server.stop() == 0
    said = server.log.read_text()
    assert "Traceback" not in said
    assert "ERROR" not in said


def test_two_processes_share_a_port(settings: Settings, tmp_path: Path) -> None:
    with serving(settings, tmp_path / "one") as one, serving(settings, tmp_path / "two") as two:
        assert one.ask("POST", "/v1/events", EVENT).status == 202
        one.stop()
        assert two.ask("POST", "/v1/events", EVENT).status == 202
    assert end_offset(settings, "events") == 2


def test_a_process_that_listens_is_ready(settings: Settings, tmp_path: Path) -> None:
    """Its share of a port's connections is answered 200 from the first one on."""
    for n in range(3):
        with serving(settings, tmp_path / f"log{n}") as server:
            answer = server.ask("GET", "/health/ready")
            assert (answer.status, answer.json["degraded"]) == (200, []), answer.body


def said(server: Server) -> list[str]:
    """The log after its first line, that nobody is asked for a token."""
    first, *lines = server.log.read_text().splitlines()
    assert "FRESHET_AUTH=off" in first
    return lines


def test_a_port_in_use_is_reported_in_one_sentence(edge: Server, tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = Server(
            msgspec.structs.replace(edge.settings, port=taken.getsockname()[1]), tmp_path / "log"
        )
        assert server.process.wait(30) == 1
    lines = said(server)
    assert len(lines) == 1
    assert "cannot serve on 127.0.0.1" in lines[0]


def test_another_partition_count_is_reported_in_one_sentence(edge: Server, tmp_path: Path) -> None:
    server = Server(msgspec.structs.replace(edge.settings, partitions=5, port=0), tmp_path / "log")
    assert server.process.wait(30) == 2
    lines = said(server)
    assert len(lines) == 1
    assert "5" in lines[0]
    assert "partitions" in lines[0]


@pytest.mark.check
def test_nothing_is_acknowledged_without_broker_and_spool(redis_url: str, tmp_path: Path) -> None:
    port = services.free_port()
    broker = _start_broker(port, tmp_path)
    settings = Settings(
        kafka_bootstrap=f"127.0.0.1:{port}", redis_url=redis_url, data_dir=tmp_path / "d", port=0
    )
    settings.data_dir.mkdir()
    (settings.data_dir / "writes").write_text("in the way of a spool")
    try:
        with serving(settings, tmp_path / "log") as server:
            assert server.ask("POST", "/v1/events", EVENT).status == 202
            broker.kill()
            broker.wait()
            started = time.monotonic()
            refused = server.ask("POST", "/v1/events", {**EVENT, "event_id": "again"})
            assert time.monotonic() - started < 8
            assert (refused.status, refused.json["code"]) == (503, "not_durable")
            assert refused.headers["retry-after"] == "1"
            _eventually(lambda: server.ask("GET", "/health/ready").status == 503)
            assert server.ask("GET", "/health/live").status == 200

            broker = _start_broker(port, tmp_path)
            retry = {**EVENT, "event_id": "again"}
            _eventually(lambda: server.ask("POST", "/v1/events", retry).status == 202)
            _eventually(lambda: 'part="broker"} 1' in server.ask("GET", "/metrics").body.decode())
    finally:
        broker.kill()
        broker.wait()


def _start_broker(port: int, home: Path) -> subprocess.Popen[bytes]:
    broker = subprocess.Popen(
        services.broker_command(port, home / "broker"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    services.wait_until(lambda: services.port_answers(port), 20, "the broker does not answer")
    return broker


def _eventually(condition: Callable[[], bool]) -> None:
    services.wait_until(condition, 30, f"{sys._getframe(1).f_lineno}: it does not come true")
