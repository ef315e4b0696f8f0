"""Processes that share the partitions of `events` export all of them, on a port that Prometheus finds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from infra.apps.inspect.scrape import scrape
from infra.cli.main import cli
from infra.local import services
from infra.local.home import TARGETS_FILE
from infra.settings import Settings, to_environment
from infra.signals import die_with_parent
from tests.support.waits import until

pytestmark = [pytest.mark.check, pytest.mark.timeout(120)]


@contextmanager
def sharing(settings: Settings, workers: int, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*(sys.executable, "-m", "infra.cli"), "flows", "run", "people", "--workers", str(workers)],
            env={**os.environ, **to_environment(settings), "OPENBLAS_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )  # fmt: skip
    try:
        yield
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def targets(settings: Settings) -> dict[str, int]:
    """Name and port of each worker, as Prometheus reads them."""
    path = settings.data_dir / TARGETS_FILE
    listed = json.loads(path.read_text()) if path.exists() else []
    return {it["labels"]["process"]: int(it["targets"][0].rpartition(":")[2]) for it in listed}


def exported(settings: Settings) -> list[int]:
    """The partitions that some worker exports: those of all targets together."""
    return sorted(
        int(dict(labels)["partition"])
        for port in targets(settings).values()
        for labels in scrape("127.0.0.1", port).get("freshet_flow_offset", {})
    )


def test_every_partition_is_exported_and_said_where(settings: Settings, tmp_path: Path) -> None:
    first, log = services.free_port(4), tmp_path / "log"
    settings = msgspec.structs.replace(settings, metrics_port=first)
    with sharing(settings, 3, log):
        until(lambda: exported(settings) == [0, 1, 2, 3], 60)
        assert targets(settings) == {f"people-{n}": first + n for n in range(3)}
        for count in (2, 4):
            scaled = CliRunner(env=to_environment(settings)).invoke(
                cli, ["flows", "scale", str(count)]
            )
            assert scaled.exit_code == 0, scaled.output
            assert len(targets(settings)) == count
            until(lambda: exported(settings) == [0, 1, 2, 3], 60)
    output = log.read_text()
    where = ", ".join(f"people-{n} 127.0.0.1:{first + n}" for n in range(3))
    assert f"metrics: {where}\n" in output
    assert "in use" not in output
    assert not (settings.data_dir / TARGETS_FILE).exists()


def test_a_port_that_is_taken_is_logged_by_its_worker(settings: Settings, tmp_path: Path) -> None:
    first, log = services.free_port(2), tmp_path / "log"
    settings = msgspec.structs.replace(settings, metrics_port=first)
    with socket.create_server(("127.0.0.1", first + 1)), sharing(settings, 2, log):
        until(lambda: exported(settings) == [0, 2], 60)
    assert f"port {first + 1} is in use: people-1 exports no metrics" in log.read_text()


def test_ports_that_do_not_exist_are_refused(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, metrics_port=65533)
    result = CliRunner(env=to_environment(settings)).invoke(
        cli, ["flows", "run", "people", "--workers", "2"]
    )
    assert result.exit_code == 2
    assert "FRESHET_METRICS_PORT is the first of the workers' ports" in result.output
