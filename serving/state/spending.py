"""What one request takes of the limits of its caller, and what came of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from infra.settings import Settings
from infra.store import gcra
from infra.store.gcra import Charge, Charged
from schemas.access.limits import READS, READS_SUBJECT, Budget, Exceeded, Policy
from schemas.access.scopes import REC_READ
from schemas.identity import partition_of
from serving.access.caller import Caller

MAX_CACHED_KEYS: Final = 20_000
MAX_LOCAL: Final = 100_000
"""Limits that a process keeps by itself while the store is away."""


class Spending:
    """Of one request: what it takes of each of `policies`. `budget`: what is left of the one that is nearest
    to its end; None before the store has answered."""

    __slots__ = ("budget", "charges", "policies")

    def __init__(self, policies: Sequence[Policy], charges: Sequence[Charge]) -> None:
        self.policies, self.charges = policies, charges
        self.budget: Budget | None = None

    @classmethod
    def leased(cls, budget: Budget | None) -> Spending:
        """Of a request whose part was taken of a lease."""
        made = cls((), ())
        made.budget = budget
        return made

    def settle(self, found: Sequence[Charged]) -> Exceeded | None:
        """Takes in what the store answered. Whether, and of which policy, it was too much."""
        worst: Exceeded | None = None
        for policy, charge, it in zip(self.policies, self.charges, found, strict=True):
            if it.taken < charge.cost and it.wait_us:
                after = it.wait_us / gcra.SECOND if charge.cost <= policy.burst else None
                if worst is None or (worst.after or 0) < (after or 0):
                    worst = Exceeded(policy, after)
        self.budget = min(
            (
                Budget(policy, max(0, it.free))
                for policy, it in zip(self.policies, found, strict=True)
            ),
            key=lambda it: it.remaining / it.policy.burst,
        )
        return worst


class Spendings:
    """Makes them for reads: `policies` by name."""

    def __init__(self, settings: Settings, policies: Mapping[str, Policy]) -> None:
        self._client, self._subject = policies.get(READS), policies.get(READS_SUBJECT)
        self.key = lru_cache(MAX_CACHED_KEYS)(Keys(settings).of)
        self._local: dict[bytes, float] = {}

    def of_read(self, caller: Caller, cost: int = 1) -> Spending | None:
        """Of `cost` reads; None where nothing limits the caller. A subject is limited where the token is of
        that one alone."""
        limited, charges = list[Policy](), list[Charge]()
        named = [(self._client, caller.client)]
        if not caller.may_for_anybody(REC_READ):
            named.append((self._subject, caller.person))
        for policy, subject in named:
            if policy is not None:
                limited.append(policy)
                charges.append(
                    Charge(self.key(policy.name, subject), policy.rate, policy.burst, cost)
                )
        return Spending(limited, charges) if limited else None

    def alone(self, spending: Spending) -> Exceeded | None:
        """Settles it by this process alone, at the same rates: the store is away."""
        if len(self._local) > MAX_LOCAL:
            self._local.clear()
        now = time.monotonic() * gcra.SECOND
        return spending.settle(gcra.charge(self._local, spending.charges, now))


class Keys:
    """The names of limits: no text of a client is in them."""

    def __init__(self, settings: Settings) -> None:
        self._keyspace, self._partitions = settings.keyspace, settings.partitions

    def of(self, policy: str, subject: str) -> bytes:
        name = hashlib.blake2b(f"{policy}\0{subject}".encode(), digest_size=16).hexdigest()
        return self._keyspace.limit(partition_of(name.encode(), self._partitions), name)
