"""What a process may let through without asking: it leases shares of a client's budget in the background.

A write must not wait for the store. So a process starts with a lease of each policy and client (or subject)
on credit, and what is used of it is taken from the budget in the store every `PERIOD_SECONDS`: at most
burst + rate * t + one lease a process is admitted. While the store is away, each process fills them
at their rates.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.settings import Settings
from infra.store import gcra
from infra.store.gcra import Charge
from schemas.access.limits import Budget, Exceeded, Policy
from serving.state.background import Background
from serving.state.spending import Keys

log = logging.getLogger("freshet.serving")
PERIOD_SECONDS: Final = 0.25
STORE_TIMEOUT_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 5.0
"""Who uses nothing for so long has a lease of the usual size again: longer than Retry-After says."""
MAX_HELD: Final = 100_000
"""Leases; those that nobody uses are dropped first."""
CHARGES_PER_CALL: Final = 500
"""The store answers nobody else while a script runs."""


class _Lease:
    """`unused` may be used; `wanted`: a request asked for more than a lease. `free`: what the budget had when
    the store was asked last. `wait`: seconds until it has more."""

    __slots__ = ("free", "key", "policy", "unused", "used_at", "wait", "wanted")

    def __init__(self, policy: Policy, key: bytes) -> None:
        self.policy, self.key = policy, key
        self.unused = policy.lease
        self.free, self.wait, self.wanted, self.used_at = policy.burst, 0.0, 0, 0.0

    @property
    def size(self) -> int:
        """What it is filled up to."""
        return max(self.policy.lease, min(self.wanted, self.policy.burst))


class Leases(Background):
    """Of `policies` by name. It is ready at once."""

    name = "limits"
    ready = True

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        policies: Mapping[str, Policy],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._redis, self._policies = redis, policies
        self._key = Keys(settings).of
        self._held: dict[tuple[str, str], _Lease] = {}
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._used: set[_Lease] = set()
        """Those that may lack something."""
        self._alone: dict[bytes, float] = {}
        self.is_away = False
        """Whether the store did not answer the last time."""

    def take(self, *wanted: tuple[str, str, int]) -> Budget | None:
        """Takes of each (policy, subject, number) that much, of all or of none. What remains of the one that
        is nearest to its end; None where nothing limits it. Errors: `Exceeded`."""
        found = [
            (self._lease(policy, name, subject), n)
            for name, subject, n in wanted
            if n and (policy := self._policies.get(name)) is not None
        ]
        for lease, n in found:
            if n > lease.unused:
                self._refuse(lease, n)
        budget = None
        for lease, n in found:
            self._used.add(lease)
            lease.unused -= n
            lease.used_at = self._clock()
            remains = Budget(lease.policy, max(0, min(lease.free, lease.policy.burst)))
            if budget is None or remains.remaining / remains.policy.burst < budget.remaining / (
                budget.policy.burst
            ):
                budget = remains
        return budget

    def give_back(self, *taken: tuple[str, str, int]) -> None:
        """Undoes a `take`: nothing came of the request."""
        for name, subject, n in taken:
            if (lease := self._held.get((name, subject))) is not None:
                lease.unused += n

    def has(self, name: str) -> bool:
        """Whether there is such a policy."""
        return name in self._policies

    async def ask(self, name: str, subject: str) -> None:
        """Takes one of a budget in the store itself. Errors: `Exceeded`, redis-py's, TimeoutError."""
        policy = self._policies.get(name)
        if policy is None:
            return
        charge = Charge(self._key(name, subject), policy.rate, policy.burst, 1)
        async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
            [[done]] = await gcra.charge_all(self._redis, [[charge]])
        if not done.taken:
            raise Exceeded(policy, done.wait_us / gcra.SECOND)

    def _refuse(self, lease: _Lease, n: int) -> None:
        lease.used_at = self._clock()
        if n > lease.policy.burst:
            raise Exceeded(lease.policy, None)
        self._used.add(lease)
        # of the budget, not on credit: who uses more than a lease before it is filled gets larger ones
        lease.wanted = max(2 * lease.wanted, 2 * lease.policy.lease, n)
        raise Exceeded(lease.policy, max(lease.wait, PERIOD_SECONDS))

    def _lease(self, policy: Policy, name: str, subject: str) -> _Lease:
        lease = self._held.get((name, subject))
        if lease is None:
            if len(self._held) >= MAX_HELD:
                self._drop_idle()
            lease = self._held[name, subject] = _Lease(policy, self._key(name, subject))
        return lease

    def _drop_idle(self) -> None:
        """Who comes back gets a lease, which is no more than the rate has given since."""
        now = self._clock()
        idle = [
            name
            for name, it in self._held.items()
            if it.unused >= it.policy.lease and now - it.used_at > it.policy.lease / it.policy.rate
        ]
        if len(idle) < MAX_HELD // 10:  # else nearly every new one would look through all of them
            idle = list(self._held)[: MAX_HELD // 10]
        for name in idle:
            self._used.discard(self._held.pop(name))

    async def run(self) -> None:
        if not self._policies:
            return
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            await self.refill()

    async def refill(self) -> None:
        """Takes from the store what was used since. Errors: none."""
        now = self._clock()
        for it in self._used:
            if it.wanted and now - it.used_at > IDLE_SECONDS:
                it.wanted, it.unused = 0, min(it.unused, it.policy.lease)
        lacking = [it for it in self._used if it.unused < it.size]
        self._used = {it for it in self._used if it.wanted or it.unused < it.size}
        for at in range(0, len(lacking), CHARGES_PER_CALL):
            await self._refill(lacking[at : at + CHARGES_PER_CALL])

    async def _refill(self, leases: list[_Lease]) -> None:
        wanted = [it.size - it.unused for it in leases]
        groups = [
            [Charge(it.key, it.policy.rate, it.policy.burst, n, partial=True)]
            for it, n in zip(leases, wanted, strict=True)
        ]
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                found = await gcra.charge_all(self._redis, groups)
        except (RedisError, OSError, TimeoutError) as error:
            self._go_on_alone(leases, wanted, error)
            return
        self.is_away = False
        self._alone.clear()
        for lease, (done,) in zip(leases, found, strict=True):
            lease.unused += done.taken
            lease.free, lease.wait = max(0, done.free) + lease.unused, done.wait_us / gcra.SECOND

    def _go_on_alone(self, leases: list[_Lease], wanted: list[int], error: Exception) -> None:
        """Fills them at their rates."""
        if not self.is_away:
            log.warning("limits go on at their rates in this process: %s", type(error).__name__)
        self.is_away = True
        now = time.monotonic() * gcra.SECOND
        for lease, n in zip(leases, wanted, strict=True):
            policy = lease.policy
            part = Charge(lease.key, policy.rate, policy.lease, n, partial=True)
            [done] = gcra.charge(self._alone, [part], now)
            lease.unused += done.taken
