"""TLS and SASL between our clients and a broker: what is right connects, what is wrong is one sentence."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from kafka import TopicPartition
from kafka.protocol.metadata import MetadataRequest

from infra.kafka import authentication, kafka_client
from infra.kafka.connection import BrokerConnection
from infra.kafka.consume import consumer, log_bounds
from infra.kafka.consume.consumer import Consumer
from infra.kafka.reachable import is_reachable
from infra.kafka.security import KafkaSecurityError
from infra.settings import Settings
from schemas.topics import EVENTS
from tests.support.certificates import Authority
from tests.support.secure_broker import broker_behind, context_of
from tests.support.secure_listener import HOST, SecureListener

USER, PASSWORD = "shop=1,berlin", "pass wörd"
Listen = Callable[..., SecureListener]


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    with broker_behind(tmp_path_factory.mktemp("broker")) as found:
        yield found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def listen(ports: tuple[int, int]) -> Iterator[Listen]:
    """Starts the one listener of a test, on the port that the broker tells."""
    started: list[SecureListener] = []

    def start(**options: Any) -> SecureListener:
        started.append(SecureListener(*ports, **options))
        return started[-1]

    yield start
    for listener in started:
        listener.close()


def settings_for(listener: SecureListener, **fields: Any) -> Settings:
    return Settings(kafka_bootstrap=f"{HOST}:{listener.port}", **fields)


def sasl(mechanism: str = "SCRAM-SHA-512", password: str = PASSWORD) -> dict[str, str]:
    return {
        "kafka_sasl_mechanism": mechanism,
        "kafka_sasl_username": USER,
        "kafka_sasl_password": password,
    }


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return uvloop.run(work())


def ask(settings: Settings) -> Any:
    """What a connection of ours is answered to Metadata."""

    async def work() -> Any:
        host, _, port = settings.kafka_bootstrap.rpartition(":")
        made = await BrokerConnection.open(settings, host, int(port), lambda *_: None)
        try:
            return await made.ask(MetadataRequest(topics=[]))
        finally:
            made.abort()
            await made.wait_closed()

    return run(work)


def bounds(settings: Settings) -> Any:
    """As a flow does first."""
    return log_bounds.bounds(settings, EVENTS.name, [0], 10)


def read(made: Consumer, until: Callable[[], bool]) -> list[bytes | None]:
    """What is read of partition 0 until the condition holds."""
    found: list[bytes | None] = []
    while not until():
        for pieces in made.poll(0.1).values():
            for records in pieces:
                found += records.values
    return found


def refused(settings: Settings, match: str) -> None:
    """Each way to connect says the same, soon, without a secret."""
    began = time.monotonic()
    for way in (ask, bounds, kafka_client.admin, kafka_client.consumer, kafka_client.producer):
        kafka_client._checked.discard(settings)  # each as the first of its process
        with pytest.raises(KafkaSecurityError, match=match) as error:
            way(settings)
        assert PASSWORD not in str(error.value)
    assert time.monotonic() - began < 12  # five of them, each far below the 30 s of kafka-python


SLOW = pytest.mark.check


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [
        ("SSL", ""),
        ("SASL_SSL", "SCRAM-SHA-512"),
        ("SASL_PLAINTEXT", "PLAIN"),
        pytest.param("SASL_SSL", "PLAIN", marks=SLOW),
        pytest.param("SASL_SSL", "SCRAM-SHA-256", marks=SLOW),
        pytest.param("SASL_PLAINTEXT", "SCRAM-SHA-256", marks=SLOW),
        pytest.param("SASL_PLAINTEXT", "SCRAM-SHA-512", marks=SLOW),
    ],
)
def test_every_client_of_ours_speaks_each_protocol(
    protocol: str, mechanism: str, listen: Listen, authority: Authority
) -> None:
    has_sasl, has_ssl = protocol.startswith("SASL"), protocol.endswith("SSL")
    context = context_of(authority.issue(HOST)) if has_ssl else None
    listener = listen(context=context, users={USER: PASSWORD} if has_sasl else None)
    settings = settings_for(
        listener,
        kafka_security_protocol=protocol,
        **({"kafka_ssl_cafile": str(authority.path)} if has_ssl else {}),
        **(sasl(mechanism) if has_sasl else {}),
    )
    assert [it.port for it in ask(settings).brokers] == [listener.port]
    assert run(lambda: is_reachable(settings))
    kafka_client.ensure_topics(settings)
    producer = kafka_client.producer(settings)
    offset = producer.send(EVENTS.name, b"value", b"key", partition=0).get(10).offset
    producer.close()
    place = TopicPartition(EVENTS.name, 0)
    with closing(kafka_client.consumer(settings)) as client:
        assert client.end_offsets([place]) == {place: offset + 1}
    assert bounds(settings) == {0: (0, offset + 1)}
    with closing(Consumer(settings, EVENTS.name, 1000)) as made:
        made.seek(0, offset)
        assert read(made, lambda: made.position(0) > offset) == [b"value"]
    assert listener.authenticated >= 6 * has_sasl


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize("field", ["kafka_sasl_username", "kafka_sasl_password"])
def test_wrong_credentials_are_a_sentence(mechanism: str, field: str, listen: Listen) -> None:
    listener = listen(users={USER: PASSWORD})
    right = settings_for(listener, kafka_security_protocol="SASL_PLAINTEXT", **sasl(mechanism))
    wrong = msgspec.structs.replace(right, **{field: "other"})
    refused(wrong, "refuses the user or the password .*KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD")


def test_a_mechanism_that_the_broker_lacks_is_a_sentence(listen: Listen) -> None:
    listener = listen(users={USER: PASSWORD}, mechanisms=("SCRAM-SHA-256",))
    settings = settings_for(listener, kafka_security_protocol="SASL_PLAINTEXT", **sasl("PLAIN"))
    refused(settings, r"SASL mechanism PLAIN: set KAFKA_SASL_MECHANISM to .*\(SCRAM-SHA-256\)")


def test_a_certificate_of_another_name_an_unknown_authority_or_the_past_is_a_sentence(
    listen: Listen, authority: Authority, tmp_path: Path
) -> None:
    fields = {
        "kafka_security_protocol": "SSL",
        "kafka_ssl_cafile": str(authority.path),
    }
    for pair, match in (
        (authority.issue("broker.example"), "of another name: name the host in KAFKA_BOOTSTRAP"),
        (authority.issue(HOST, days=-1), "has expired: renew it"),
        (
            Authority(tmp_path, "another").issue(HOST),
            "no authority that is known here .*KAFKA_SSL_CAFILE",
        ),
    ):
        listener = listen(context=context_of(pair))
        refused(settings_for(listener, **fields), match)
        if "name" in match:
            assert ask(settings_for(listener, **fields, kafka_ssl_check_hostname=False)).brokers
        listener.close()


def test_a_broker_that_asks_for_our_certificate_gets_it(
    listen: Listen, authority: Authority, tmp_path: Path
) -> None:
    listener = listen(context=context_of(authority.issue(HOST), clients=authority))
    without = settings_for(
        listener, kafka_security_protocol="SSL", kafka_ssl_cafile=str(authority.path)
    )
    refused(without, "asks for a certificate of ours: set KAFKA_SSL_CERTFILE")

    def with_pair(signer: Authority) -> Settings:
        pair = str(signer.issue("client", password="of the key"))
        return msgspec.structs.replace(
            without,
            kafka_ssl_certfile=pair,
            kafka_ssl_keyfile=pair,
            kafka_ssl_key_password="of the key",
        )

    ours = with_pair(authority)
    assert ask(ours).brokers
    kafka_client.admin(ours).close()
    for name in ("other", "Test authority"):
        refused(with_pair(Authority(tmp_path, name)), "refuses our certificate")


def test_a_protocol_that_the_listener_does_not_speak_is_a_sentence(
    listen: Listen, authority: Authority
) -> None:
    secure = context_of(authority.issue(HOST))
    ca = {"kafka_ssl_cafile": str(authority.path)}
    users = {USER: PASSWORD}
    for options, fields, match in (
        ({"context": secure}, {}, "speaks TLS"),
        ({}, {"kafka_security_protocol": "SSL", **ca}, "speaks no TLS"),
        ({"users": users}, {}, "wants SASL"),
        (
            {"users": users, "context": secure},
            {"kafka_security_protocol": "SSL", **ca},
            "wants SASL",
        ),
        ({}, {"kafka_security_protocol": "SASL_PLAINTEXT", **sasl()}, "has no SASL"),
        (
            {"users": users},
            {"kafka_security_protocol": "SASL_SSL", **ca, **sasl()},
            "speaks no TLS",
        ),
        (
            {"users": users, "context": secure},
            {"kafka_security_protocol": "SASL_PLAINTEXT", **sasl()},
            "speaks TLS",
        ),
    ):
        listener = listen(**options)
        refused(settings_for(listener, **fields), match)
        listener.close()


def test_a_session_that_ends_is_renewed_between_requests(listen: Listen) -> None:
    listener = listen(users={USER: PASSWORD}, lifetime_ms=1300)
    settings = settings_for(listener, kafka_security_protocol="SASL_PLAINTEXT", **sasl())

    async def work() -> tuple[int, list[Exception | None]]:
        lost: list[Exception | None] = []
        made = await BrokerConnection.open(
            settings, HOST, listener.port, lambda _, why: lost.append(why)
        )
        answered = 0

        def again(frame: bytes, offset: int) -> None:
            nonlocal answered
            answered += 1
            if listener.authenticated < 2:
                made.send(18, 0, (b"",), again)

        for _ in range(3):  # in flight all the time
            made.send(18, 0, (b"",), again)
        while made.in_flight or listener.authenticated < 2:
            assert (await made.ask(MetadataRequest(topics=[]))).brokers
        made.abort()
        await made.wait_closed()
        return answered, lost

    answered, lost = run(work)
    assert answered > 3
    assert lost == [None]
    assert listener.expired == 0


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [it.getMessage() for it in caplog.records if it.name == consumer.__name__]


def test_a_flow_connects_anew_before_its_session_ends_and_while_it_is_refused(
    listen: Listen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(authentication, "MIN_RENEWAL_SECONDS", 0.0)
    monkeypatch.setattr(consumer, "FETCH_WAIT_MS", 10)
    listener = listen(users={USER: PASSWORD}, lifetime_ms=300)
    settings = settings_for(listener, kafka_security_protocol="SASL_PLAINTEXT", **sasl("PLAIN"))
    kafka_client.ensure_topics(settings)
    with closing(Consumer(settings, EVENTS.name, 1000)) as made:
        made.seek(0, bounds(settings)[0][1])
        before = listener.authenticated
        assert read(made, lambda: listener.authenticated > before + 3) == []
        assert (listener.expired, said(caplog)) == (0, [])
        listener.users = {USER: "another"}
        assert read(made, lambda: bool(said(caplog))) == []
        assert "refuses the user or the password" in said(caplog)[0]
        listener.users = {USER: PASSWORD}
        with closing(kafka_client.producer(settings)) as producer:
            end = producer.send(EVENTS.name, b"value", partition=0).get(10).offset + 1
        assert read(made, lambda: made.position(0) == end) == [b"value"]


@pytest.mark.check
def test_a_change_of_the_password_ends_the_connection_with_the_reason(listen: Listen) -> None:
    listener = listen(users={USER: PASSWORD}, lifetime_ms=1100)
    settings = settings_for(listener, kafka_security_protocol="SASL_PLAINTEXT", **sasl())

    async def work() -> Exception | None:
        reason: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        await BrokerConnection.open(
            settings, HOST, listener.port, lambda _, why: reason.set_result(why)
        )
        listener.users = {USER: "another"}
        return await reason

    # the end of the connection comes with the refusal, and may be seen first
    assert "refuses the user or the password" in str(run(work))


@pytest.mark.check
def test_the_command_line_says_it_in_one_line(
    listen: Listen, tmp_path: Path, redis_url: str
) -> None:
    listener = listen(users={USER: PASSWORD})
    environment = {
        "KAFKA_BOOTSTRAP": f"{HOST}:{listener.port}",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": "wr0ng",
        "REDIS_URL": redis_url,
        "FRESHET_DATA_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "infra.cli", "flows", "run", "catalogue"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "refuses the user or the password" in done.stderr
    assert "wr0ng" not in done.stderr
