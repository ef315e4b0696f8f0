"""Which faults a run goes through, and when: a pure function of its seed.

Every kind is one entry of `KINDS`. Their order is shuffled once for each three seeds in a row (0 to 2, 3
to 5, …), and those three share it among them: so three runs of 45 s together go through every kind. With a
slot of `SHORT_SLOT_SECONDS` one run does.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from schemas import flows
from schemas.flows import GENERATIONAL
from schemas.topics import EVENTS

LEAD_SECONDS: Final = 4.0
"""Of traffic alone, before the first fault."""
SLOT_SECONDS: Final = 4.5
"""From the start of one fault to that of the next; longer where the system has not recovered yet."""
SHORT_SLOT_SECONDS: Final = 1.5
SHARE: Final = 3
"""So many seeds in a row cover every kind."""


class Kind(NamedTuple):
    """`how`: what is done (`tests.chaos.faults`); `targets`: to which processes, all at once; `lasts`: from
    start to end, in s, 0 where the fault is over as soon as it is done."""

    how: str
    targets: tuple[str, ...]
    lasts: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.how} {'+'.join(self.targets)}"


class Fault(NamedTuple):
    """`at`: seconds after the traffic began, at the earliest."""

    kind: Kind
    at: float


FLOWS: Final = tuple(it.name for it in flows.FLOWS if it.topic in (EVENTS.name, ""))
OTHERS: Final = tuple(it.name for it in flows.FLOWS if it.topic not in (EVENTS.name, ""))
KINDS: Final = (
    *(Kind("kill", (name,)) for name in (*FLOWS, "serving-0", "broker", "redis")),
    Kind("kill", (*FLOWS, "serving")),
    Kind("kill", OTHERS),
    Kind("kill", ("broker", "redis")),
    Kind("kill", ("people", "broker", "redis", "serving")),
    # as after a power cut: what Redis had promised for less than a second is gone
    Kind("forget", ("redis",)),
    *(Kind("stop", (name,), 2.0) for name in (*GENERATIONAL, "serving-0", "broker", "redis")),
    *(Kind("slow", (name,), 2.0) for name in ("broker", "redis")),
    *(Kind("cut", (name,), 2.0) for name in ("broker", "redis")),
    *(Kind("zombie", (name,), 1.5) for name in GENERATIONAL),
    # between a commit and the sending of what it left in the outbox, several times, each within so long
    Kind("between", ("relay",), 2.0),
    # between the sending of dead letters and the commit of their batch, several times
    Kind("between", ("people",), 2.0),
)


def schedule(seed: int, seconds: float = 45.0, slot: float = SLOT_SECONDS) -> list[Fault]:
    """The faults of a run of so many seconds, in order, one each `slot` seconds."""
    kinds = list(KINDS)
    random.Random(f"faults {seed // SHARE}").shuffle(kinds)
    each = -(-len(kinds) // SHARE)
    first, count = seed % SHARE * each, max(1, int((seconds - LEAD_SECONDS) // slot))
    chosen = [kinds[(first + n) % len(kinds)] for n in range(count)]
    return [Fault(kind, LEAD_SECONDS + n * slot) for n, kind in enumerate(chosen)]
