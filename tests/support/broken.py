"""Steps for `tests.support.scripted_broker`: what a broker, or the network before it, does to an answer."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, Final

from tests.support.scripted_broker import PRODUCE, Exchange, Step, refused

DELAY_SECONDS: Final = 0.2
FAR: Final = 1000


async def slowly(exchange: Exchange) -> None:
    answer = await exchange.perform()
    await asyncio.sleep(DELAY_SECONDS)
    await exchange.answer(answer)


async def byte_by_byte(exchange: Exchange) -> None:
    for byte in exchange.frame(await exchange.perform()):
        exchange.write(bytes([byte]))
        await asyncio.sleep(0)


async def half(exchange: Exchange) -> None:
    data = exchange.frame(await exchange.perform())
    exchange.write(data[: len(data) // 2])
    await exchange.flush()
    exchange.hang_up()


async def half_and_no_more(exchange: Exchange) -> None:
    data = exchange.frame(await exchange.perform())
    exchange.write(data[: len(data) // 2])


async def silent(exchange: Exchange) -> None:
    """Nothing is done, and no answer comes."""


async def twice(exchange: Exchange) -> None:
    exchange.write(2 * exchange.frame(await exchange.perform()))


def kept_back(is_kept: asyncio.Event) -> Step:
    """For `behind_the_next`."""

    async def step(exchange: Exchange) -> None:
        exchange.held.append(exchange.frame(await exchange.perform()))
        is_kept.set()

    return step


async def behind_the_next(exchange: Exchange) -> None:
    exchange.write(exchange.frame(await exchange.perform()) + b"".join(exchange.held))
    exchange.held.clear()


async def of_another_request(exchange: Exchange) -> None:
    exchange.write(exchange.frame(await exchange.perform(), more=FAR))


async def for_another_partition(exchange: Exchange) -> None:
    answer = await exchange.perform()
    for topic in answer.responses:
        for it in topic.partition_responses:
            it.index += FAR
    await exchange.answer(answer)


async def for_another_topic(exchange: Exchange) -> None:
    answer = await exchange.perform()
    for topic in answer.responses:
        topic.name = "another"
    await exchange.answer(answer)


async def without_a_partition(exchange: Exchange) -> None:
    answer = await exchange.perform()
    answer.responses[0].partition_responses.pop()
    await exchange.answer(answer)


async def with_one_more_partition(exchange: Exchange) -> None:
    answer = await exchange.perform()
    answer.responses[0].partition_responses.append(refused(FAR, 0))
    await exchange.answer(answer)


async def with_a_partition_twice(exchange: Exchange) -> None:
    answer = await exchange.perform()
    cells = answer.responses[0].partition_responses
    cells.append(cells[0])
    await exchange.answer(answer)


async def of_two_gigabytes(exchange: Exchange) -> None:
    await exchange.perform()
    exchange.write(struct.pack(">ii", 2**31 - 1, exchange.header.correlation))


async def of_negative_size(exchange: Exchange) -> None:
    await exchange.perform()
    exchange.write(struct.pack(">ii", -5, exchange.header.correlation))


async def of_no_size(exchange: Exchange) -> None:
    await exchange.perform()
    exchange.write(bytes(8))


async def cut_short(exchange: Exchange) -> None:
    """The frame is whole, what it holds is not."""
    data = exchange.frame(await exchange.perform())[4:-6]
    exchange.write(struct.pack(">i", len(data)) + data)


async def of_garbage(exchange: Exchange) -> None:
    await exchange.perform()
    data = struct.pack(">i", exchange.header.correlation) + b"\x7f" * 40
    exchange.write(struct.pack(">i", len(data)) + data)


async def hung_up_before(exchange: Exchange) -> None:
    exchange.hang_up()


async def hung_up_after(exchange: Exchange) -> None:
    await exchange.perform()
    exchange.hang_up()


def silent_until(ended: asyncio.Event) -> Step:
    """Nothing is done and no answer comes; in the end the connection is reset."""

    async def step(exchange: Exchange) -> None:
        await ended.wait()
        exchange.hang_up()

    return step


async def throttled(exchange: Exchange) -> None:
    answer = await exchange.perform()
    answer.throttle_time_ms = int(1000 * DELAY_SECONDS)
    await exchange.answer(answer)


def refused_with(code: int) -> Step:
    """Nothing is done."""

    async def step(exchange: Exchange) -> None:
        await exchange.answer(exchange.refusal(code))

    return step


def done_but_refused_with(code: int) -> Step:
    async def step(exchange: Exchange) -> None:
        await exchange.perform()
        await exchange.answer(exchange.refusal(code))

    return step


def one_refused_with(code: int) -> Step:
    """The others of the request are done."""

    async def step(exchange: Exchange) -> None:
        topic = exchange.request.topic_data[0]
        first = topic.partition_data.pop(0)
        answer = await exchange.perform()
        for row in answer.responses:
            if (row.name, row.topic_id) == (topic.name, topic.topic_id):
                row.partition_responses.append(refused(first.index, code))
        await exchange.answer(answer)

    return step


def failed_with(code: int, **fields: Any) -> Step:
    """The answer has an error code of its own."""

    async def step(exchange: Exchange) -> None:
        answer = await exchange.perform()
        answer.error_code = code
        for name, value in fields.items():
            setattr(answer, name, value)
        await exchange.answer(answer)

    return step


def leaders_move(node: int) -> Step:
    """`node` leads all partitions from now on, and this one answers that it does not."""

    async def step(exchange: Exchange) -> None:
        exchange.cluster.leader_of = lambda partition: node
        await exchange.answer()

    return step


class Late:
    """The connection is reset, and what was asked is done much later: once `land` is called."""

    def __init__(self) -> None:
        self._kept: list[Exchange] = []

    async def step(self, exchange: Exchange) -> None:
        self._kept.append(exchange)
        exchange.hang_up()

    async def land(self) -> list[int]:
        """The error codes of its partitions."""
        codes = []
        for exchange in self._kept:
            assert exchange.header.api == PRODUCE
            answer = await exchange.perform()
            codes += [it.error_code for row in answer.responses for it in row.partition_responses]
        return codes


async def without_leaders(exchange: Exchange) -> None:
    """An answer to a Metadata request."""
    answer = await exchange.perform()
    for topic in answer.topics:
        for it in topic.partitions:
            it.error_code, it.leader_id = 5, -1
    await exchange.answer(answer)


async def with_leaders_that_are_no_brokers(exchange: Exchange) -> None:
    answer = await exchange.perform()
    for topic in answer.topics:
        for it in topic.partitions:
            it.leader_id = FAR
    await exchange.answer(answer)


async def with_leaders_behind_a_closed_port(exchange: Exchange) -> None:
    answer = await exchange.perform()
    for it in answer.brokers:
        it.port = 1
    await exchange.answer(answer)
