"""Real services: one Redis and one broker a session, emptied for each module; a whole system on demand."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from infra.kafka import kafka_client
from infra.local import services
from infra.local.plan import python_path
from infra.local.supervisor import last_line
from infra.local.system import System, running
from infra.settings import Settings
from infra.signals import die_with_parent
from infra.store import redis_client
from schemas.topics import TOPICS
from tests.support import cluster, order
from tests.support.whole import whole_only

# no deadline: it would hold on a quiet machine only
hypothesis.settings.register_profile("ci", max_examples=40, deadline=None)
hypothesis.settings.register_profile("all", max_examples=200, deadline=None)
# of a second run of laws, in another process: with another build, or beside a recipe
hypothesis.settings.register_profile("few", max_examples=15, deadline=None)
hypothesis.settings.load_profile(
    "all" if os.environ.get("ALL") else os.environ.get("EXAMPLES", "ci")
)


def pytest_configure() -> None:
    """What tests start must get SIGINT, also where a shell had this process ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)  # what is executed does not inherit a handler


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> order.Groups | None:
    return order.Groups(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: order.place(item.nodeid))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked `on_cluster` that asks for Redis is in the slow suite once more, on a cluster; with
    `whole` by ALL=1 alone."""
    marked = metafunc.definition.get_closest_marker("on_cluster")
    if marked and "redis_kind" in metafunc.fixturenames:
        marks = [pytest.mark.check, *([whole_only] if marked.kwargs.get("whole") else ())]
        kinds = ["single", pytest.param("cluster", marks=marks)]
        metafunc.parametrize("redis_kind", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def redis_kind(request: pytest.FixtureRequest) -> str:
    """What `redis_url` names: a "single" server, or a "cluster" of three."""
    return getattr(request, "param", "single")


@pytest.fixture(scope="session")
def redis_server(redis_kind: str, request: pytest.FixtureRequest) -> str:
    """The address of the server of `redis_kind`. A started server runs until the session ends."""
    if redis_kind == "cluster":
        found: cluster.Cluster = request.getfixturevalue("redis_cluster")
        return found.url
    single: str = request.getfixturevalue("redis_single")
    return single


@pytest.fixture(scope="session")
def redis_single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server as the product starts it."""
    directory, port = tmp_path_factory.mktemp("redis"), services.free_port()
    url = f"redis://{services.HOST}:{port}/0"
    log = directory / "log"
    with log.open("wb") as output:
        process = _start(services.redis_command(port, directory), output.fileno())
    try:
        _await(lambda: services.redis_answers(url), process, log)
        yield url
    finally:
        _stop(process)


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[cluster.Cluster]:
    with cluster.running(tmp_path_factory.mktemp("cluster")) as running_:
        yield running_


@pytest.fixture(scope="session")
def broker_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of an embedded broker."""
    directory, port = tmp_path_factory.mktemp("broker"), services.free_port()
    log = directory / "log"
    with log.open("wb") as output:
        process = _start(services.broker_command(port, directory / "data"), output.fileno())
    try:
        _await(lambda: services.port_answers(port), process, log)
        yield f"{services.HOST}:{port}"
    finally:
        _stop(process)


@pytest.fixture(scope="module")
def redis_url(redis_server: str) -> str:
    """A Redis, empty where the module begins."""
    _empty_redis(Settings(redis_url=redis_server))
    return redis_server


@pytest.fixture(scope="module")
def broker(broker_server: str, redis_kind: str) -> str:
    """``host:port`` of an embedded broker, without Freshet's topics where the module begins, for each kind
    of Redis."""
    _delete_topics(Settings(kafka_bootstrap=broker_server))
    return broker_server


@pytest.fixture
def settings(redis_url: str, broker: str, tmp_path: Path) -> Settings:
    """Settings of a test of its own: an empty Redis, and topics made anew (so with new ids)."""
    settings = Settings(
        kafka_bootstrap=broker,
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        port=services.free_port(),
        auth="off",
    )
    _empty_redis(settings)
    _delete_topics(settings)
    kafka_client.ensure_topics(settings)
    return settings


@pytest.fixture(scope="module")
def system(
    redis_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """A whole `freshet up`, shared by the tests of a module; on the cluster, where `redis_kind` says so."""
    yours = {"FRESHET_AUTH": "off"}  # of tokens there are tests of their own
    if redis_kind == "cluster":
        yours["REDIS_URL"] = request.getfixturevalue("redis_url")
    with running(tmp_path_factory.mktemp("system"), environment=yours) as up:
        yield up


def _empty_redis(settings: Settings) -> None:
    with redis_client.connect(settings) as client:
        client.flushall()


def _delete_topics(settings: Settings) -> None:
    admin = kafka_client.admin(settings)
    try:
        if old := sorted(set(admin.list_topics()) & {topic.name for topic in TOPICS}):
            admin.delete_topics(old)
    finally:
        admin.close()


def _start(command: Sequence[str], output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=die_with_parent(),
        env={**os.environ, "PYTHONPATH": python_path()},
    )


def _await(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 20
    while not condition():
        if process.poll() is not None or time.monotonic() > until:
            pytest.fail(f"{log.parent.name} does not answer: {last_line(log)}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
