"""The ledgers in the form in which they are compared: by sender, requests in their order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.ledger import Acknowledged, Line, Sent, lines, senders


@dataclass
class Sender:
    """One sender's requests. Events' numbers grow with the requests that they belong to."""

    requests: list[Sent] = field(default_factory=list)
    answers: dict[int, Acknowledged] = field(default_factory=dict)
    _firsts: list[int] = field(default_factory=list)

    def take(self, line: Line) -> None:
        if isinstance(line, Acknowledged):
            self.answers[line.request] = line
            return
        self.requests.append(line)
        self._firsts.append(line.first)

    def of(self, number: int) -> Sent | None:
        """The request that event `number` was first sent with; None where it never was sent."""
        at = bisect_right(self._firsts, number) - 1
        while at >= 0 and self.requests[at].count == 0:
            at -= 1
        found = self.requests[at] if at >= 0 else None
        return found if found and number < found.first + found.count else None

    def answered(self, sent: Sent) -> Acknowledged | None:
        return self.answers.get(sent.request)

    def numbers(self) -> Iterator[tuple[Sent, int]]:
        """Every event once, with its request."""
        for sent in self.requests:
            for number in range(sent.first, sent.first + sent.count):
                yield sent, number

    def acknowledged(self) -> Iterator[tuple[Sent, int]]:
        for sent in self.requests:
            if answer := self.answered(sent):
                refused = set(answer.refused)
                for number in range(sent.first, sent.first + sent.count):
                    if number not in refused:
                        yield sent, number

    def refused(self) -> set[int]:
        return {number for answer in self.answers.values() for number in answer.refused}


Ledgers = dict[str, Sender]


def read_ledgers(directory: Path) -> Ledgers:
    """Of every ledger in a folder."""
    return {name: sender_of(lines(path)) for name, path in senders(directory).items()}


def sender_of(written: Iterable[Line]) -> Sender:
    made = Sender()
    for line in written:
        made.take(line)
    return made


def slates(ledgers: Ledgers) -> Iterator[dict[str, Any]]:
    """Every slate that was answered."""
    for sender in ledgers.values():
        for sent in sender.requests:
            if sent.what == "slate":
                yield sent.said()
