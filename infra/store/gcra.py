"""The generic cell rate algorithm, in Redis and by Redis's clock: one script for many limits at once.

A limit is one number, the theoretical arrival time `tat` of the next request at the limit's rate (ITU-T
I.371, annex A). A request of `cost` moves it by cost / rate; it is admitted while that is at most
burst / rate ahead of now. So at most burst + rate * t is admitted in any time t, whatever clocks say.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from math import ceil, floor
from typing import Any, Final, NamedTuple

from infra.store import redis_client

SECOND: Final = 1_000_000
"""In the microseconds of the script."""
FIELDS: Final = 3
"""Numbers that the script answers of a limit."""

ROUNDING: Final = 0.01
"""Of one, so that a time of 50 bits loses none of a whole burst."""
SCRIPT: Final = b"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer, held = {}, {}
local at = 1
while at <= #KEYS do
  local arg = 5 * (at - 1)
  local n, last, ok = tonumber(ARGV[arg + 5]), at, true
  last = at + n - 1
  for k = at, last do
    local a = 5 * (k - 1)
    local tat = held[KEYS[k]] or tonumber(redis.call('GET', KEYS[k]) or 0)
    if tat < now then tat = now end
    held[KEYS[k]] = tat
    local interval, most = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
    local free = math.floor((now + most - tat) / interval + 0.01)
    if free < 0 then free = 0 end
    if tonumber(ARGV[a + 3]) > free and ARGV[a + 4] == '0' then ok = false end
  end
  for k = at, last do
    local a = 5 * (k - 1)
    local interval, most, cost = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
    local tat = held[KEYS[k]]
    local free = math.floor((now + most - tat) / interval + 0.01)
    if free < 0 then free = 0 end
    local taken = 0
    if ok then
      taken = math.min(cost, free)
      if taken > 0 then
        tat = tat + taken * interval
        held[KEYS[k]] = tat
        redis.call('SET', KEYS[k], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
      end
    end
    local wait = tat + (cost - taken) * interval - most - now
    if taken >= cost or wait < 0 then wait = 0 end
    answer[#answer + 1] = taken
    answer[#answer + 1] = math.floor((now + most - tat) / interval + 0.01)
    answer[#answer + 1] = math.ceil(wait)
  end
  at = last + 1
end
return answer
"""
SHA: Final = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()


class Charge(NamedTuple):
    """`cost` of a limit of `rate` (a second) and `burst`, kept under `key`. `partial`: as much of it as there
    is; else all or nothing."""

    key: bytes
    rate: float
    burst: int
    cost: int
    partial: bool = False

    @property
    def interval(self) -> float:
        """Microseconds of one at the rate."""
        return SECOND / self.rate


class Charged(NamedTuple):
    """`taken` of the cost, what is `free` then, and the `wait_us` until what was not taken could be."""

    taken: int
    free: int
    wait_us: int


def arguments(groups: Sequence[Sequence[Charge]]) -> tuple[list[bytes], list[bytes]]:
    """KEYS and ARGV. The charges of a group are taken together or not at all, where none is partial."""
    keys, values = [], []
    for group in groups:
        for it in group:
            keys.append(it.key)
            values += [
                b"%.17g" % it.interval,
                b"%.17g" % (it.burst * it.interval),
                b"%d" % it.cost,
                b"%d" % it.partial,
                b"%d" % len(group),
            ]
    return keys, values


def charged(answer: Sequence[int], groups: Sequence[Sequence[Charge]]) -> list[list[Charged]]:
    """The script's answer, by group."""
    made = iter(Charged(*answer[at : at + FIELDS]) for at in range(0, len(answer), FIELDS))
    return [[next(made) for _ in group] for group in groups]


def charge(tats: dict[bytes, float], group: Sequence[Charge], now_us: float) -> list[Charged]:
    """The definition: the script on one group, with `tats` for Redis. `now_us`: microseconds."""

    def free(it: Charge) -> int:
        return floor((now_us + it.burst * it.interval - tats[it.key]) / it.interval + ROUNDING)

    for it in group:
        tats[it.key] = max(tats.get(it.key, 0.0), now_us)
    ok = all(it.partial or it.cost <= max(0, free(it)) for it in group)
    found = []
    for it in group:
        taken = min(it.cost, max(0, free(it))) if ok else 0
        tats[it.key] += taken * it.interval
        wait = tats[it.key] + (it.cost - taken - it.burst) * it.interval - now_us
        found.append(Charged(taken, free(it), ceil(wait) if taken < it.cost and wait > 0 else 0))
    return found


async def charge_all(client: Any, groups: Sequence[Sequence[Charge]]) -> list[list[Charged]]:
    """The script on these groups, of an asynchronous client of redis-py. On a cluster each charge is taken by
    itself. Errors: redis-py's."""
    if redis_client.is_cluster(client):
        found = await asyncio.gather(*(charge_each(client, group) for group in groups))
        return [charged(answer, [group])[0] for answer, group in zip(found, groups, strict=True)]
    if not groups:
        return []
    keys, values = arguments(groups)
    return charged(await client.eval(SCRIPT, len(keys), *keys, *values), groups)


async def charge_each(client: Any, group: Sequence[Charge]) -> list[int]:
    """The script's answer on a group, each charge of which is taken by itself. Errors: redis-py's."""
    answer: list[int] = []
    for one in group:
        keys, values = arguments([[one]])
        answer += await client.eval(SCRIPT, len(keys), *keys, *values)
    return answer
