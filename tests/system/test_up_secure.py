"""A whole system on a broker that wants TLS and SASL: each process connects, and no file shows a password."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from infra.local.plan import FRESHET
from infra.local.services import wait_until
from infra.local.system import System, running
from infra.store import redis_client
from tests.flows.faults import behind_published, produce, traffic
from tests.support.certificates import Authority
from tests.support.http import ask
from tests.support.secure_broker import broker_behind, context_of
from tests.support.secure_listener import HOST, SecureListener
from tests.system.test_cli import read_json

pytestmark = [pytest.mark.check, pytest.mark.timeout(180)]
USER, PASSWORD = "shop", "s3cret-of-the-broker"


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureListener]:
    folder = tmp_path_factory.mktemp("secure")
    authority = Authority(folder)
    with broker_behind(folder) as (target, advertised):
        started = SecureListener(
            target, advertised, context=context_of(authority.issue(HOST)), users={USER: PASSWORD}
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def environment(
    listener: SecureListener, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder = tmp_path_factory.getbasetemp() / "secure0"
    (folder / "password").write_text(f"{PASSWORD}\n")
    return {
        "FRESHET_AUTH": "off",
        "KAFKA_BOOTSTRAP": f"{HOST}:{listener.port}",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD_FILE": str(folder / "password"),
        "KAFKA_SSL_CAFILE": str(folder / "authority.pem"),
    }


@pytest.fixture(scope="module")
def shop(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("shop"), environment=environment) as up:
        yield up


def test_a_whole_system_runs_on_a_broker_with_tls_and_sasl(
    shop: System, listener: SecureListener
) -> None:
    settings, rnd = shop.settings, random.Random(7)
    with redis_client.connect(settings) as client:
        produce(settings, traffic(300, 30, rnd), rnd, lambda n: None)
        wait_until(lambda: not behind_published(settings, client), 60, "the flows stand still")
    assert read_json(shop, "verify")["mismatches"] == []
    assert read_json(shop, "status")["paused"] == []
    assert listener.authenticated > 10


def test_no_output_and_no_log_shows_the_password(shop: System) -> None:
    config = subprocess.run(
        [*FRESHET, "config", "--data-dir", shop.directory], capture_output=True, text=True
    )
    assert "KAFKA_SASL_PASSWORD" in config.stdout
    assert PASSWORD not in config.stdout
    record = Path(shop.directory) / "up.json"
    assert record.stat().st_mode & 0o077 == 0
    for path in (Path(shop.directory) / "logs").iterdir():
        assert PASSWORD not in path.read_text(), path


def test_a_password_that_is_changed_is_a_warning_and_away_until_it_is_changed_back(
    shop: System, listener: SecureListener
) -> None:
    def logged(text: str) -> bool:
        files = (Path(shop.directory) / "logs").glob("serving*")
        return any(text in path.read_text() for path in files)

    listener.users = {USER: "another"}
    listener.cut()
    wait_until(lambda: logged("refuses the user or the password"), 30, "no warning")
    status = subprocess.run(
        [*FRESHET, "status", "--data-dir", shop.directory], capture_output=True, text=True
    )
    assert status.returncode == 2
    assert status.stderr.startswith("freshet: the broker at")
    assert status.stderr.count("\n") == 1
    click = {"event_id": "e1", "user_id": "ann", "item_id": "i1", "action": "click"}
    with closing(HTTPConnection(shop.settings.bind, shop.settings.port, timeout=30)) as edge:
        assert ask(edge, "POST", "/v1/events", click).status == 202, "it waits in the spool"
    listener.users = {USER: PASSWORD}
    wait_until(lambda: logged("the broker is back"), 30, "it does not come back")
    with redis_client.connect(shop.settings) as client:
        wait_until(lambda: not behind_published(shop.settings, client), 60, "flows stand still")


def test_up_on_a_broker_that_refuses_us_is_a_sentence(
    environment: dict[str, str], tmp_path: Path
) -> None:
    for changed, sentence in (
        ({"KAFKA_SASL_PASSWORD_FILE": "", "KAFKA_SASL_PASSWORD": "wr0ng"}, "refuses the user"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SSL_CAFILE": ""}, "speaks TLS"),
    ):
        done = subprocess.run(
            [*FRESHET, "up", "--data-dir", str(tmp_path / "up")],
            env={**environment, **changed},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert sentence in done.stderr.splitlines()[-1]
