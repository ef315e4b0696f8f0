"""What serving acknowledges is in the log, on every broker: in the clear, and with SASL over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from infra.kafka.connection import BrokerConnection
from infra.kafka.produce.errors import RecordRefused
from infra.kafka.security import KafkaSecurityError
from infra.local import services
from infra.local.apache_kafka import ApacheKafka
from infra.settings import Settings
from schemas.record import Record
from schemas.topics import EVENTS
from serving.log.producer import LogProducer
from tests.contract.conftest import USERS, Embedded, quick
from tests.contract.raw import fresh
from tests.support.certificates import Authority
from tests.support.writers import Writers, ended, read_log, until, writing

SECONDS: Final = 60.0
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-512")


@pytest.fixture
def plain(bootstrap: str, tmp_path: Path) -> Settings:
    """Settings with topics of the test's own."""
    return Settings(
        kafka_bootstrap=bootstrap, data_dir=tmp_path / "data", topic_prefix=f"{fresh('writers')}."
    )


@pytest.fixture
def sasl_tls(secured: ApacheKafka, authority: Authority, tmp_path: Path) -> Settings:
    """Settings of a client of `secured`, with topics of the test's own."""
    return Settings(
        kafka_bootstrap=f"{services.HOST}:{secured.port}",
        kafka_security_protocol="SASL_SSL",
        kafka_ssl_cafile=str(authority.path),
        kafka_sasl_mechanism=MECHANISMS[0],
        kafka_sasl_username="freshet",
        kafka_sasl_password=USERS["freshet"],
        data_dir=tmp_path / "data",
        topic_prefix=f"{fresh('writers')}.",
    )


def with_mechanism(settings: Settings, mechanism: str) -> Settings:
    return msgspec.structs.replace(settings, kafka_sasl_mechanism=mechanism)


def written(settings: Settings, records: int) -> Writers:
    """Writers that have written so many records each, all of them acknowledged by the broker and checked."""
    found: list[Writers] = []

    async def main() -> None:
        async with writing(settings) as writers:
            await writers.append_each(records)
            assert not writers.spooled | writers.failed
            writers.check(await asyncio.to_thread(read_log, settings))
            found.append(writers)

    ended(main, SECONDS)
    return found[0]


@quick
def test_what_is_acknowledged_is_in_the_log_in_order(plain: Settings) -> None:
    assert len(written(plain, 60).offsets) == 60 * 6


@quick
def test_a_large_append_is_split_and_its_offsets_are_right(plain: Settings) -> None:
    sizes = (10, 2_000, 300_000)
    records = [
        Record(
            b"key", n % 4, b"%d," % n + b"x" * sizes[n % 40 == 7 and 1 + n % 2], (("n", b"%d" % n),)
        )
        for n in range(400)
    ]

    async def main() -> None:
        producer = await LogProducer.open(plain)
        try:
            offsets = await producer.append(EVENTS.name, records)
        finally:
            await producer.close()
        assert offsets == dict.fromkeys(range(4), 99)

    ended(main, SECONDS)
    logged = read_log(plain)
    assert logged == {p: [it.value for it in records[p::4]] for p in range(4)}


def test_a_record_that_the_broker_finds_too_large_is_refused_alone(plain: Settings) -> None:
    async def main() -> None:
        async with writing(plain) as writers:
            large = Record(b"key", 0, bytes(2 << 20), (("random", b"1"),))
            with pytest.raises(RecordRefused):
                await writers.writes.append(EVENTS.name, [large._replace(value=_noise(2 << 20))])
            await writers.settle(SECONDS)
            await writers.append_each(5)
            writers.check(await asyncio.to_thread(read_log, plain))

    ended(main, SECONDS)


def _noise(size: int) -> bytes:
    import random

    return random.Random(size).randbytes(size)


def test_writers_wait_in_the_spool_while_an_embedded_broker_is_away(
    embedded: Embedded, tmp_path: Path
) -> None:
    settings = Settings(kafka_bootstrap=embedded.start(), data_dir=tmp_path / "serving")
    _outage(settings, lambda: embedded.stop(kill=True), lambda: embedded.start(_port(settings)))


def test_writers_wait_in_the_spool_while_apache_kafka_is_away(
    secured: ApacheKafka, sasl_tls: Settings
) -> None:
    _outage(sasl_tls, secured.kill, secured.start)


def _port(settings: Settings) -> int:
    return int(settings.kafka_bootstrap.rpartition(":")[2])


def _outage(settings: Settings, end: Callable[[], Any], begin: Callable[[], Any]) -> None:
    async def main() -> None:
        async with writing(settings) as writers:
            async with writers.appending():
                await writers.await_acknowledged(200, SECONDS)
                await asyncio.to_thread(end)
                await until(lambda: len(writers.spooled) > 100, SECONDS)
                assert writers.writes.ready
                await asyncio.to_thread(begin)
                await writers.await_acknowledged(200, SECONDS)
            await writers.settle(SECONDS)
            assert not writers.failed
            writers.check(await asyncio.to_thread(read_log, settings))

    ended(main, 2 * SECONDS)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_records_go_over_sasl_and_tls(sasl_tls: Settings, mechanism: str) -> None:
    written(with_mechanism(sasl_tls, mechanism), 100)


WRONG = {
    "password": ({"kafka_sasl_password": "wrong"}, "KAFKA_SASL_PASSWORD"),
    "user": ({"kafka_sasl_username": "nobody-of-that-name"}, "KAFKA_SASL_USERNAME"),
    "no-tls": ({"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_cafile": ""}, "TLS"),
}


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(("fields", "word"), WRONG.values(), ids=WRONG)
def test_what_an_operator_must_mend_is_a_sentence(
    sasl_tls: Settings, mechanism: str, fields: dict[str, str], word: str
) -> None:
    settings = with_mechanism(msgspec.structs.replace(sasl_tls, **fields), mechanism)

    async def main() -> None:
        with pytest.raises(KafkaSecurityError) as raised:
            await BrokerConnection.open(settings, services.HOST, _port(settings), lambda *_: None)
        said = f"{raised.value} {raised.value.remedy}"
        assert word in said
        assert "wrong" not in said.split()
        with pytest.raises(KafkaSecurityError):
            await LogProducer.open(settings)

    ended(main, SECONDS)


def test_a_certificate_of_an_unknown_authority_is_named(sasl_tls: Settings, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger", "Another authority")
    _is_refused(
        msgspec.structs.replace(sasl_tls, kafka_ssl_cafile=str(stranger.path)), "KAFKA_SSL_CAFILE"
    )


def test_a_certificate_of_another_name_is_named(sasl_tls: Settings) -> None:
    by_name = f"localhost:{_port(sasl_tls)}"
    _is_refused(msgspec.structs.replace(sasl_tls, kafka_bootstrap=by_name), "of another name")


def _is_refused(settings: Settings, words: str) -> None:
    async def main() -> None:
        with pytest.raises(KafkaSecurityError) as raised:
            await LogProducer.open(settings)
        assert words in f"{raised.value} {raised.value.remedy}"

    ended(main, SECONDS)
