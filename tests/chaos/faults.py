"""Doing each kind of fault to a running system, and how long that system takes to be itself again."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from schemas.topics import DEAD_LETTERS
from tests.chaos.poison import Poisoner
from tests.chaos.schedule import Fault, Kind
from tests.chaos.sender import Sender
from tests.chaos.watch import AWAY, Watch
from tests.chaos.world import World

FORGOTTEN: Final = 0.8
"""Seconds of writes that a Redis may lose: it syncs each second."""
MARK_SECONDS: Final = 0.25
"""After the end of a fault the end offsets are noted: every store must reach them."""
LIMIT: Final = 60.0
"""Seconds after which a system has not recovered at all."""
LOOK: Final = 0.05
BURST: Final = 12
ROUNDS: Final = 3


class Felt(msgspec.Struct, kw_only=True):
    """A fault as it went. Times in s: `at` since the traffic began, `recovery_s` from its end; None where
    that was not reached, and `lacked` names the store that lacks records."""

    kind: str
    at: float
    lasted_s: float
    recovery_s: float | None
    lacked: str = ""


class Conductor:
    """`rate`: events a second, by which a lag is small or not."""

    def __init__(
        self,
        world: World,
        watch: Watch,
        senders: Sequence[Sender],
        poisoner: Poisoner,
        rate: float,
        rnd: random.Random,
    ) -> None:
        self._world, self._watch, self._rate = world, watch, rate
        self._senders, self._poisoner, self._random = senders, poisoner, rnd
        self._ways: dict[str, Callable[[Kind], None]] = {
            "kill": self._kill,
            "forget": self._forget,
            "stop": self._stop,
            "slow": self._slow,
            "cut": self._cut,
            "zombie": self._zombie,
            "between": self._between,
        }

    def conduct(self, fault: Fault, began: float) -> Felt:
        """Waits for the fault's time, does it, and returns after the recovery or after `LIMIT`."""
        time.sleep(max(0.0, began + fault.at - time.monotonic()))
        kind = fault.kind._replace(targets=self._world.processes(fault.kind.targets))
        started = time.monotonic()
        self._ways[kind.how](kind)
        ended = time.monotonic()
        recovery, lacked = self._recovery(ended, "lake" in kind.targets)
        return Felt(
            kind=kind.name,
            at=round(started - began, 2),
            lasted_s=round(ended - started, 2),
            recovery_s=recovery,
            lacked=lacked,
        )

    def _recovery(self, ended: float, lake: bool) -> tuple[float | None, str]:
        """From `ended` until every sender is acknowledged by the broker again, what the log had a moment
        after is everywhere, and the lag is under a second's traffic. Also who was the last to lack it."""
        marks: dict[int, int] | None = None
        lacked = "the log"
        while time.monotonic() - ended < LIMIT:
            time.sleep(LOOK)
            if marks is None and time.monotonic() - ended >= MARK_SECONDS:
                try:
                    marks = self._watch.end_offsets()
                except AWAY:
                    continue
            if marks is None:
                continue
            if any(sender.asked < ended for sender in self._senders if sender.is_alive()):
                lacked = "serving"
            elif still := self._watch.lacks(marks, lake=lake):
                lacked = still
            elif large := self._large(self._watch.lag()):
                lacked = large
            else:
                return round(time.monotonic() - ended, 2), lacked
        return None, lacked

    def _large(self, lag: tuple[int, int] | None) -> str:
        """The store whose lag exceeds a second's traffic, with its lag; tables come once a second."""
        if lag is None:
            return "Redis or the broker"
        for name, records, seconds in (("people", lag[0], 1.0), ("rollup", lag[1], 2.5)):
            if records >= seconds * self._rate:
                return f"{name}, {records} records"
        return ""

    def _kill(self, kind: Kind) -> None:
        self._world.kill(*kind.targets)

    def _forget(self, kind: Kind) -> None:
        self._world.forget(FORGOTTEN)

    def _stop(self, kind: Kind) -> None:
        pids = [pid for name in kind.targets for pid in self._world.pids(name)]
        self._world.signal(pids, signal.SIGSTOP)
        time.sleep(kind.lasts)
        self._world.signal(pids, signal.SIGCONT)

    def _slow(self, kind: Kind) -> None:
        for name in kind.targets:
            self._world.proxies.adjust(name, delay=self._random.uniform(0.03, 0.15))
        time.sleep(kind.lasts)
        for name in kind.targets:
            self._world.proxies.adjust(name)

    def _cut(self, kind: Kind) -> None:
        for name in kind.targets:
            self._world.proxies.adjust(name, is_open=False, cut=True)
        time.sleep(kind.lasts)
        for name in kind.targets:
            self._world.proxies.adjust(name)

    def _zombie(self, kind: Kind) -> None:
        for name in kind.targets:
            self._world.zombie(name)
        time.sleep(kind.lasts)
        self._world.lay_to_rest()

    def _between(self, kind: Kind) -> None:
        (name,) = kind.targets
        for _ in range(ROUNDS):
            until = time.monotonic() + kind.lasts
            if name == "relay":
                self._await_another(self._waiting, until)
            else:
                before = self._letters()
                self._poisoner.burst(BURST)
                self._await_another(self._letters, until, before)
            time.sleep(self._random.uniform(0, 0.01))
            self._world.kill(name)

    def _await_another(
        self, what: Callable[[], int], until: float, before: int | None = None
    ) -> None:
        """Returns as soon as a number has changed."""
        while time.monotonic() < until:
            with contextlib.suppress(*AWAY):
                now = what()
                if before is not None and now != before:
                    return
                before = now
            time.sleep(0.001)

    def _waiting(self) -> int:
        """Changes as the relay takes records out of the outboxes, or the folds put some there."""
        return self._watch.waiting()

    def _letters(self) -> int:
        return self._watch.end_offsets(DEAD_LETTERS.name, [0])[0]
