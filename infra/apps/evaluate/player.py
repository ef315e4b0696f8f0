"""The passes of a replay, in two processes where the log is long: one replays while the other trains.

The second process is a fresh one, which gets what it needs by value: a fork would copy the threads' locks of
the libraries that training uses.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from infra.apps.evaluate.answers import Answers
from infra.apps.evaluate.candidate import Candidate
from infra.apps.evaluate.data import to_log
from infra.apps.evaluate.protocols.delays import Cutoffs
from infra.apps.evaluate.protocols.plan import EvaluationPlan
from infra.apps.evaluate.replay import Contender, Replay
from infra.settings import Settings
from infra.signals import die_with

if TYPE_CHECKING:
    from infra.terminal.progress import Reporter

MIN_ACTS: Final = 20_000
"""Of a log that two processes replay: the second one takes a second or two to start."""
PARTITIONS: Final = 1
"""Of the log that is replayed: a place in the acts is an offset."""


class ReplayPass(NamedTuple):
    """One replay of the log. `cut`: the name of what is known in it; `trained`: the candidate's release
    serves."""

    name: str
    cut: str
    trained: bool
    arms: Mapping[str, Contender]


class ReplayFold(NamedTuple):
    """What a replay is made of."""

    plan: EvaluationPlan
    cuts: Mapping[str, Cutoffs]
    settings: Settings

    def replay(self) -> Replay:
        log = to_log(self.plan.acts, PARTITIONS)
        return Replay(log, self.plan, list(self.cuts.values()), self.settings)


class Player:
    """Plays passes over one fold: `start` begins one, beside this process where the log is long; `play` plays
    it here."""

    def __init__(self, fold: ReplayFold, reporter: Reporter) -> None:
        self._fold, self._reporter = fold, reporter
        self._replay: Replay | None = None
        self._other: ProcessPoolExecutor | None = None
        if len(fold.plan.acts.time) >= MIN_ACTS:
            context = multiprocessing.get_context("spawn")
            self._other = ProcessPoolExecutor(1, context, _keep, (fold, os.getpid()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._other is None:
            return
        if kind is not None:  # nobody waits for what it replays
            for process in multiprocessing.active_children():
                process.kill()
        self._other.shutdown(cancel_futures=True)

    @property
    def replay(self) -> Replay:
        """The fold of this process."""
        if self._replay is None:
            with self._reporter.work("fold the log up to each choice"):
                self._replay = self._fold.replay()
        return self._replay

    def start(self, of: ReplayPass, candidate: Candidate) -> Future[dict[str, Answers]]:
        if self._other is not None:
            with _without_interrupts():
                return self._other.submit(_play, of, candidate)
        done: Future[dict[str, Answers]] = Future()
        done.set_result(self.play(of, candidate))
        return done

    def play(self, of: ReplayPass, candidate: Candidate) -> dict[str, Answers]:
        replay, cut = self.replay, self._fold.cuts[of.cut]
        release = candidate.release if of.trained else None
        with self._reporter.work(f"replay {of.name}", len(cut.now)) as progress:
            return replay.answers(cut, release, of.arms, progress)

    def wait(self, others: Sequence[Future[dict[str, Answers]]]) -> dict[str, Answers]:
        """Of passes that were started."""
        with self._reporter.work("wait for the other process"):
            return {name: of for other in others for name, of in other.result().items()}


class _Kept(NamedTuple):
    replay: Replay
    cuts: Mapping[str, Cutoffs]


_KEPT: Final[list[_Kept]] = []
"""Of the second process: its fold."""


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process that is started meanwhile gets no Ctrl-C of the terminal: the first process ends it."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _keep(fold: ReplayFold, parent: int) -> None:
    die_with(parent)
    _KEPT.append(_Kept(fold.replay(), fold.cuts))


def _play(of: ReplayPass, candidate: Candidate) -> dict[str, Answers]:
    replay, cuts = _KEPT[0]
    release = candidate.release if of.trained else None
    return replay.answers(cuts[of.cut], release, of.arms, lambda count: None)
