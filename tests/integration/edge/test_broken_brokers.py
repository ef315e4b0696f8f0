"""Brokers that answer wrongly, late or not at all: every append ends, what is acknowledged is in the log in
order, the log of the process says what was wrong, once, and the producer serves again.

The cases run in one event loop, several at once, each with a cluster and a producer of its own; the tests
look at what became of each.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from kafka.protocol.producer import InitProducerIdRequest

from infra.settings import Settings
from schemas.topics import EVENTS
from tests.support import broken
from tests.support.scripted_broker import METADATA, PRODUCE, Exchange, ScriptedBroker, Step
from tests.support.writers import Writers, ended, until, writing

INIT: Final = InitProducerIdRequest.API_KEY
PARTITIONS: Final = 3
RECORDS: Final = 12
"""Of each writer, one after the other."""
SECONDS: Final = 60.0
"""Of everything that has to end; much longer than it takes."""
OLD_EPOCH: Final = 47
AT_ONCE: Final = 8
AWAY: Final = "the broker is away"

Play = Callable[[ScriptedBroker, Writers], Awaitable[None]]


class Case(NamedTuple):
    """`play` breaks what it likes while it appends. `says`: a line of the log of the process; "" for no line,
    since all records go to the broker."""

    play: Play
    says: str = AWAY


class Result(NamedTuple):
    """`error`: what the case raised."""

    error: BaseException | None
    said: list[logging.LogRecord]


def answers(*steps: Step) -> Play:
    """The second of the following Produce requests, and those behind it, meet `steps`."""

    async def play(broker: ScriptedBroker, writers: Writers) -> None:
        broker.script[PRODUCE].extend([Exchange.answer, *steps])
        await writers.append_each(RECORDS)

    return play


def on_reconnect(api: int, *steps: Step) -> Play:
    """The producer has to be replaced, id and all, and requests of `api` of the next one meet `steps`."""

    async def play(broker: ScriptedBroker, writers: Writers) -> None:
        broker.script[api].extend(steps)
        await answers(broken.refused_with(OLD_EPOCH))(broker, writers)

    return play


def on_metadata(*steps: Step) -> Play:
    """As `on_reconnect`, of requests for metadata of topics: others only ask whether a broker is one."""

    async def play(broker: ScriptedBroker, writers: Writers) -> None:
        waiting = deque(steps)

        async def step(exchange: Exchange) -> None:
            chosen = waiting.popleft() if exchange.request.topics and waiting else Exchange.answer
            await chosen(exchange)

        broker.always[METADATA] = step
        await answers(broken.refused_with(OLD_EPOCH))(broker, writers)
        await writers.settle(SECONDS)
        assert not waiting

    return play


async def out_of_order(broker: ScriptedBroker, writers: Writers) -> None:
    is_kept = asyncio.Event()
    broker.script[PRODUCE].extend([broken.kept_back(is_kept), broken.behind_the_next])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writers.append(0))
        await is_kept.wait()
        tasks.create_task(writers.append(1))


async def silent_as_it_reconnects(broker: ScriptedBroker, writers: Writers) -> None:
    done = asyncio.Event()
    broker.script[INIT].append(broken.silent_until(done))
    await answers(broken.refused_with(OLD_EPOCH))(broker, writers)
    assert writers.writes.ready
    done.set()


async def forbidden_for_long(broker: ScriptedBroker, writers: Writers) -> None:
    refused = broker.always[PRODUCE] = broken.refused_with(29)
    before = broker.seen[PRODUCE]
    await until(lambda: broker.seen[PRODUCE] - before > 2, SECONDS, writers.append_each)
    assert broker.always.pop(PRODUCE) is refused


async def the_address_is_that_of_another(broker: ScriptedBroker, writers: Writers) -> None:
    broker.advertised[2] = broker.address(1)
    broker.leader_of = lambda partition: 2
    before = broker.seen[PRODUCE]
    await until(lambda: broker.seen[PRODUCE] - before > 2, SECONDS, writers.append_each)
    broker.advertised.clear()


async def one_of_two_leaders_is_gone(broker: ScriptedBroker, writers: Writers) -> None:
    broker.leader_of = lambda partition: 1 + partition % 2
    await answers(broken.hung_up_before)(broker, writers)
    await writers.settle(SECONDS)
    broker.close(2)
    broker.leader_of = lambda partition: 1
    await writers.append_each(RECORDS)


async def late(broker: ScriptedBroker, writers: Writers) -> None:
    lost = broken.Late()
    broker.script[PRODUCE].extend([Exchange.answer, lost.step])
    await writers.append_each(RECORDS)
    await writers.settle(SECONDS)
    assert {*await lost.land()} == {OLD_EPOCH}


CASES: Final[dict[str, Case]] = {
    "slowly": Case(answers(broken.slowly), ""),
    "throttled": Case(answers(broken.throttled), ""),
    "byte-by-byte": Case(answers(broken.byte_by_byte), ""),
    "half": Case(answers(broken.half)),
    "twice": Case(answers(broken.twice)),
    "out-of-order": Case(out_of_order),
    "another-request": Case(answers(broken.of_another_request)),
    "another-partition": Case(answers(broken.for_another_partition)),
    "another-topic": Case(answers(broken.for_another_topic)),
    "a-partition-less": Case(answers(broken.without_a_partition)),
    "a-partition-more": Case(answers(broken.with_one_more_partition)),
    "a-partition-twice": Case(answers(broken.with_a_partition_twice)),
    "two-gigabytes": Case(answers(broken.of_two_gigabytes)),
    "negative-size": Case(answers(broken.of_negative_size)),
    "no-size": Case(answers(broken.of_no_size)),
    "cut-short": Case(answers(broken.cut_short)),
    "garbage": Case(answers(broken.of_garbage)),
    "hung-up-before": Case(answers(broken.hung_up_before)),
    "hung-up-after": Case(answers(broken.hung_up_after)),
    "late": Case(late),
    "loading": Case(answers(broken.refused_with(14)), "the broker fails"),
    "not-leader": Case(answers(broken.refused_with(6)), "leader has moved"),
    "not-leader-of-one": Case(answers(broken.one_refused_with(6)), "leader has moved"),
    "unknown-topic": Case(answers(broken.refused_with(3)), "leader has moved"),
    "time-out": Case(answers(broken.done_but_refused_with(7)), "the broker fails"),
    "few-replicas": Case(answers(broken.refused_with(19)), "too few replicas"),
    "few-after": Case(answers(broken.done_but_refused_with(20)), "too few replicas"),
    "forbidden": Case(answers(broken.refused_with(29)), "allow Write"),
    "forbidden-for-long": Case(forbidden_for_long, "allow Write"),
    "out-of-sequence": Case(answers(broken.refused_with(45)), "this producer"),
    "old-epoch": Case(answers(broken.refused_with(47)), "this producer"),
    "fenced": Case(answers(broken.refused_with(90)), "this producer"),
    "unknown-producer": Case(answers(broken.refused_with(59)), "this producer"),
    "duplicate": Case(answers(broken.refused_with(46)), "the broker fails"),
    "disk": Case(answers(broken.refused_with(56)), "leader has moved"),
    "of-no-name": Case(answers(broken.refused_with(-1)), "the broker fails"),
    "of-the-future": Case(answers(broken.refused_with(999)), "the broker fails"),
    "leaders-move": Case(answers(broken.leaders_move(2)), "leader has moved"),
    "and-return": Case(answers(broken.leaders_move(2), broken.leaders_move(1)), "leader has moved"),
    "address-of-another": Case(the_address_is_that_of_another, "leader has moved"),
    "a-leader-gone": Case(one_of_two_leaders_is_gone),
    "init-loading": Case(on_reconnect(INIT, *[broken.failed_with(14)] * 3), "this producer"),
    "init-hangs-up": Case(
        on_reconnect(INIT, broken.hung_up_before, broken.hung_up_after), "this producer"
    ),
    "init-garbage": Case(on_reconnect(INIT, broken.of_garbage), "this producer"),
    "init-forbidden": Case(on_reconnect(INIT, broken.failed_with(31)), "this producer"),
    "init-silent": Case(silent_as_it_reconnects, "this producer"),
    "metadata-half": Case(on_metadata(broken.half), "this producer"),
    "metadata-garbage": Case(on_metadata(broken.of_garbage), "this producer"),
    "no-leaders": Case(on_metadata(*[broken.without_leaders] * 2), "this producer"),
    "leaders-unknown": Case(on_metadata(broken.with_leaders_that_are_no_brokers), "this producer"),
    "leaders-closed": Case(on_metadata(broken.with_leaders_behind_a_closed_port), "this producer"),
}

SLOW: Final[dict[str, Case]] = {
    "no-answer": Case(answers(broken.silent)),
    "half-and-no-more": Case(answers(broken.half_and_no_more)),
    "init-no-answer": Case(on_reconnect(INIT, broken.silent), "can't be used (TimeoutError)"),
    "metadata-no-answer": Case(on_metadata(broken.silent), "can't be used"),
}
"""Cases that last until time is up for an answer."""

_running: contextvars.ContextVar[str] = contextvars.ContextVar("case", default="")


class _ByCase(logging.Handler):
    """Callbacks and threads have the context of the case that began them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: defaultdict[str, list[logging.LogRecord]] = defaultdict(list)

    def emit(self, record: logging.LogRecord) -> None:
        self.said[_running.get()].append(record)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    return _run_all(CASES, tmp_path_factory.mktemp("broken"))


@pytest.fixture(scope="module")
def slow_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    return _run_all(SLOW, tmp_path_factory.mktemp("silent"))


def _run_all(cases: dict[str, Case], folder: Path) -> dict[str, Result]:
    handler, logger = _ByCase(), logging.getLogger("freshet")
    errors: list[BaseException | None] = []

    async def main() -> None:
        room = asyncio.Semaphore(AT_ONCE)
        runs = (_run(name, case, folder / name, room) for name, case in cases.items())
        errors.extend(await asyncio.gather(*runs, return_exceptions=True))

    logger.addHandler(handler)
    try:
        ended(main, 4 * SECONDS)
    finally:
        logger.removeHandler(handler)
    return {
        name: Result(error, handler.said[name]) for name, error in zip(cases, errors, strict=True)
    }


async def _run(name: str, case: Case, folder: Path, room: asyncio.Semaphore) -> None:
    _running.set(name)
    async with (
        room,
        asyncio.timeout(SECONDS),
        ScriptedBroker(folder / "broker", 2).listening() as broker,
        writing(
            Settings(
                kafka_bootstrap=broker.bootstrap, data_dir=folder / "data", partitions=PARTITIONS
            )
        ) as writers,
    ):
        await writers.append_each(1)
        await case.play(broker, writers)
        await writers.settle(SECONDS)
        assert not any(broker.script.values()), "a step was not reached"
        assert writers.writes.ready
        assert not writers.failed
        assert bool(writers.spooled) == bool(case.says)
        writers.check(broker.logged(EVENTS.name))


@pytest.mark.parametrize("name", CASES)
def test_every_append_ends_and_what_is_acknowledged_is_in_the_log(
    name: str, results: dict[str, Result]
) -> None:
    if error := results[name].error:
        raise error


@pytest.mark.parametrize("name", CASES)
def test_the_log_says_what_was_wrong_once(name: str, results: dict[str, Result]) -> None:
    _check_said(results[name].said, CASES[name].says)


def _check_said(said: Sequence[logging.LogRecord], wanted: str) -> None:
    lines = [it.getMessage() for it in said]
    assert [it for it in lines if wanted in it] if wanted else not lines, lines
    assert not any(record.exc_info for record in said)
    errors = Counter(it.getMessage() for it in said if it.levelno > logging.WARNING)
    assert set(errors.values()) <= {1}


@pytest.mark.check
@pytest.mark.parametrize("name", SLOW)
def test_no_append_waits_for_an_answer_that_never_comes(
    name: str, slow_results: dict[str, Result]
) -> None:
    if error := slow_results[name].error:
        raise error
    _check_said(slow_results[name].said, SLOW[name].says)
