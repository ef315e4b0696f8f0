"""`freshet verify` of a new installation: partitions without records, and without a fence yet."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from flows.verify.run import verify
from infra.cli.main import cli
from infra.kafka.reader import Topics
from infra.settings import Settings, to_environment
from infra.store import redis_client
from schemas.keys import PLAIN
from schemas.state import fences
from tests.flows.faults import Flow, produce, traffic
from tests.support.waits import until

pytestmark = [pytest.mark.check, pytest.mark.timeout(120)]


@pytest.fixture
def client(settings: Settings) -> Iterator[Any]:
    with redis_client.connect(settings) as connected:
        yield connected


def one_event(settings: Settings) -> int:
    """Sends one event and answers its partition."""
    produce(settings, traffic(1, 1, random.Random(1)), random.Random(1), lambda n: None)
    log = Topics(settings)
    (with_it,) = (p for p in range(settings.partitions) if log.bounds("events", p)[1])
    return with_it


def folded(settings: Settings, client: Any, partition: int) -> None:
    """Waits until `people` has folded it, and stops the flow."""
    flow = Flow(settings, "people", settings.data_dir / "people.log")
    try:
        until(lambda: bool(client.get(PLAIN.fence("people", partition))), 60)
    finally:
        flow.kill()


@pytest.fixture(autouse=True)
def folder(settings: Settings) -> None:
    settings.data_dir.mkdir(parents=True)


def command(settings: Settings, *words: str) -> Any:
    return CliRunner().invoke(cli, words, env=to_environment(settings), catch_exceptions=False)


def test_nothing_is_wrong_before_the_first_event(settings: Settings) -> None:
    assert verify(settings, Topics(settings)).mismatches == []
    assert command(settings, "verify").exit_code == 0
    assert command(settings, "verify", "--partition", "1").exit_code == 0
    assert "has no events yet" in command(settings, "rebuild", "--partition", "1").output


def test_nothing_is_wrong_after_a_single_event(settings: Settings, client: Any) -> None:
    partition = one_event(settings)
    folded(settings, client, partition)
    for people in (None, 500):
        report = verify(settings, Topics(settings), people=people)
        assert report.mismatches == []
        assert (report.events, report.people_checked) == (1, 1)


def test_an_event_that_no_flow_has_folded_yet_is_not_wrong(settings: Settings) -> None:
    one_event(settings)
    report = verify(settings, Topics(settings))
    assert (report.mismatches, report.people_checked) == ([], 0)


def test_a_fence_that_is_gone_is_wrong_whatever_else_there_is(
    settings: Settings, client: Any
) -> None:
    partition = one_event(settings)
    folded(settings, client, partition)
    fence = PLAIN.fence("people", partition)
    held = client.get(fence)
    assert fences.decode(held).offset == 1
    client.delete(fence)
    assert_gone(settings, fence)
    client.delete(PLAIN.deltas(partition))  # as after a rebuild, which leaves no facts
    assert_gone(settings, fence)


def assert_gone(settings: Settings, fence: bytes) -> None:
    (found,) = verify(settings, Topics(settings), sums=False).mismatches
    assert (found.what, found.stored) == ("fence", "nothing, while there is state")
    assert found.key == fence.decode()
