"""Two brokers, one contract: every test that takes `bootstrap` runs against each of them."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from kafka.protocol.consumer import HeartbeatRequest
from kafka.protocol.metadata import FindCoordinatorRequest

from infra.local import services
from infra.local.apache_kafka import ApacheKafka
from infra.local.kafka_cluster import PORTS, KafkaCluster
from infra.local.kafka_properties import SaslTls
from tests.contract.raw import Peer, eventually, fresh
from tests.support.certificates import Authority

START_SECONDS: Final = 20.0
UNKNOWN_MEMBER: Final = 25
USERS: Final = {"freshet": "a-secret", "other": "another"}
HERE: Final = Path(__file__).parent
# looks for old records at once and often, where Kafka's own start after 30 s and rest for 5 min
SOON: Final = {
    "log.initial.task.delay.ms": "200",
    "log.retention.check.interval.ms": "200",
    "auto.create.topics.enable": "true",  # Kafka's own default
}
F = TypeVar("F", bound=Callable[..., object])


def quick(test: F) -> F:
    """Keeps a test's run against the embedded broker in the quick suite."""
    test.quick = True  # type: ignore[attr-defined]
    return test


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder is `check`, the slow suite, but for what `quick` marks."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        kind = getattr(item, "callspec", None)
        apache = kind is not None and kind.params.get("bootstrap") == "apache"
        if apache or not hasattr(getattr(item, "function", None), "quick"):
            item.add_marker(pytest.mark.check)


class Embedded:
    """The embedded broker as a process of its own, on `data`."""

    def __init__(self, data: Path, *options: str, **popen: Any) -> None:
        self.data, self.options, self.popen = data, options, popen
        self.process: subprocess.Popen[str] | None = None
        self.bootstrap = ""
        self.log = data.with_name(f"{data.name}.log")

    def start(self, port: int = 0) -> str:
        """`host:port`. Errors: `AssertionError` with what it said, where it does not come up."""
        with self.log.open("ab") as log:
            # not one of the kernel's choice, which another's connection may have before a restart
            self.process = self.launch(port or services.free_port(), log.fileno())
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if not line.startswith("listening "):
            self.stop(kill=True)
            raise AssertionError(self.said())
        self.bootstrap = line.split()[1]
        return self.bootstrap

    def said(self) -> str:
        """The broker's log so far."""
        return self.log.read_text()

    def launch(self, port: int = 0, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Starts the process without waiting until it listens."""
        command = [sys.executable, "-m", "infra.broker", "--data", str(self.data)]
        return subprocess.Popen(
            [*command, "--port", str(port), *self.options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            **self.popen,
        )

    def refuses(self, port: int = 0) -> str:
        """The text on stderr. Errors: `AssertionError` unless the exit code is 2."""
        process = self.launch(port)
        try:
            _, said = process.communicate(timeout=START_SECONDS)
        finally:
            process.kill()
        assert process.returncode == 2, said
        return said.strip().splitlines()[-1]

    def restart(self, kill: bool) -> str:
        """Stops the broker, by kill -9 or SIGTERM, and starts it again on the same port."""
        port = int(self.bootstrap.rsplit(":", 1)[1])
        self.stop(kill)
        return self.start(port)

    def stop(self, kill: bool = False) -> int:
        """Stops the broker and answers the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.kill() if kill else process.terminate()
        process.communicate(timeout=START_SECONDS)
        return process.returncode


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    """An embedded broker of the test's own, not started."""
    broker = Embedded(tmp_path / "data")
    yield broker
    broker.stop(kill=True)


@pytest.fixture(scope="session", params=["embedded", "apache"])
def bootstrap(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """`host:port` of one broker for the whole session."""
    data = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        broker = Embedded(data, "--retention-check-seconds", "0.2")
        yield broker.start()
        assert broker.stop() == 0
        return
    _skip_without_apache()
    node = ApacheKafka(data, services.free_port(2), SOON)
    yield node.start()
    node.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the certificate of `secured`."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def secured(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApacheKafka]:
    """Apache Kafka with SASL over TLS, for the users `USERS`."""
    _skip_without_apache()
    security = SaslTls(authority.issue(services.HOST), USERS)
    node = ApacheKafka(tmp_path_factory.mktemp("secured"), services.free_port(3), None, security)
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="session")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three Apache Kafka nodes; a test that kills one starts it again."""
    _skip_without_apache()
    cluster = KafkaCluster(tmp_path_factory.mktemp("three"), services.free_port(PORTS))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _skip_without_apache() -> None:
    if reason := ApacheKafka.available():
        pytest.skip(f"Apache Kafka cannot run here: {reason}")


@pytest.fixture
def peer(bootstrap: str) -> Iterator[Peer]:
    """A connection to the broker under test."""
    with Peer(bootstrap) as connection:
        yield connection


@pytest.fixture
def topic(peer: Peer, request: pytest.FixtureRequest) -> str:
    """An empty topic with one partition, ready for use."""
    return new_topic(peer, request.node.originalname)


@pytest.fixture
def group(peer: Peer) -> str:
    """A group id whose coordinator answers."""
    name = fresh("group")

    def answers() -> bool:
        asked = FindCoordinatorRequest(key_type=0, coordinator_keys=[name])
        if peer.ask(asked, 4).coordinators[0].error_code:
            return False
        beat = HeartbeatRequest(
            group_id=name, generation_id=-1, member_id="", group_instance_id=None
        )
        return bool(peer.ask(beat, 4).error_code == UNKNOWN_MEMBER)

    eventually(answers)
    return name


def new_topic(peer: Peer, word: str, partitions: int = 1, **configs: str) -> str:
    """A topic that every partition of which has a leader."""
    name = fresh(word.replace("_", "-")[:100])
    assert peer.create(name, partitions, 1, **configs) == 0
    for partition in range(partitions):
        eventually(lambda n=partition: peer.offset_at(name, -1, n)[0] == 0)  # type: ignore[misc]
    return name
