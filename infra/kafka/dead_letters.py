"""The state of dead letters, as their topic says, and redrives: sending their records once more.

The topic is the log of redrives too. A run that wants to send a record claims its letter first, with a mark
in the topic. The topic has one partition: of two claims one comes first, and both runs see which. Once the
record is acknowledged another mark says so, and no run sends the record again. The claim of a run that has
ended holds for `CLAIM_SECONDS`; the run that takes it over first looks in the record's own partition whether
the record was sent. One gap remains: a run that is stopped between its last look at the clock and its
sending, for longer than that, sends the record a second time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import KafkaConsumer, KafkaProducer

from infra.kafka import kafka_client
from infra.kafka.end_offsets import Place
from infra.kafka.names import broker_name, topic_partition
from infra.kafka.reader import Topics
from infra.log_reader import Headers, OffTheLog
from infra.settings import Settings
from schemas import dead_letters
from schemas.dead_letters import REDRIVEN, DeadLetter, Redrive
from schemas.errors import FreshetError
from schemas.topics import BY_NAME, DEAD_LETTERS

CLAIM_SECONDS: Final = 60.0
SEND_SECONDS: Final = 20.0
"""The age from which a run does not act on its own claim any more."""
LETTERS_PER_BATCH: Final = 1000
Keep = Callable[[DeadLetter], bool]


class LettersNotSent(FreshetError):
    """Records could not be sent once more; the text says why, never what the records hold."""


@dataclass
class Letter:
    """`letter` as it first came; without the record's bytes where `keep` refused them."""

    letter: DeadLetter
    reported_at: int
    """When the letter was written, ms."""
    repeats: int = 0
    """How often the letter came again: a flow that ends before its commit sends its letters once more."""
    claim: Redrive | None = None
    end_before: int = 0
    """The end of the record's partition before the first claim."""
    sent: Redrive | None = None

    @property
    def state(self) -> str:
        return "redriven" if self.sent else "claimed" if self.claim else "waiting"

    def mark(self, mark: Redrive) -> None:
        """The first claim holds, until it is `CLAIM_SECONDS` old."""
        if mark.sent is not None:
            self.sent = self.sent or mark
        elif self.claim is None or mark.at - self.claim.at > CLAIM_SECONDS * 1000:
            first = self.claim is None
            self.end_before = mark.end if first else min(self.end_before, mark.end)
            self.claim = mark


@dataclass
class Redriven:
    """The outcome of a redrive: identities of letters.

    `before`: sent by an earlier run; `elsewhere`: another run sends them now; `gone`: the record is too long
    for a letter, and its topic does not hold it any more.
    """

    sent: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class Letterbox:
    """All letters by identity, read up to the topic's end. Errors of every method: `KafkaError`."""

    def __init__(self, settings: Settings, keep: Keep = lambda letter: False) -> None:
        self._settings, self._keep = settings, keep
        self.letters: dict[str, Letter] = {}
        self._at = topic_partition(settings, DEAD_LETTERS.name, 0)
        self._consumer: KafkaConsumer = kafka_client.consumer(settings, max_poll_records=5000)
        self._consumer.assign([self._at])
        self._consumer.seek_to_beginning()
        self._producer: KafkaProducer | None = None
        self.read()

    def read(self) -> None:
        """Reads the letters and marks that came since the last read."""
        end = self._consumer.end_offsets([self._at])[self._at]
        while self._consumer.position(self._at) < end:
            for record in self._consumer.poll(500).get(self._at, ()):
                self._take(record)

    def _take(self, record: Any) -> None:
        letter = dead_letters.decode(record.value)
        seen = self.letters.get(letter.identity)
        if seen is None:
            if not self._keep(letter):
                letter.size, letter.value, letter.headers = letter.length, None, ()
            seen = self.letters[letter.identity] = Letter(letter, record.timestamp)
        elif letter.redrive is None:
            seen.repeats += 1
        if letter.redrive is not None:
            seen.mark(letter.redrive)

    def redrive(self, identities: Sequence[str]) -> Redriven:
        """Sends the record of each of these letters once; `keep` must have kept their bytes.

        Errors: `LettersNotSent`.
        """
        outcome = Redriven()
        for at in range(0, len(identities), LETTERS_PER_BATCH):
            batch = identities[at : at + LETTERS_PER_BATCH]
            self._redrive([self.letters[name] for name in batch], outcome)
        return outcome

    def _redrive(self, letters: list[Letter], outcome: Redriven) -> None:
        outcome.before += [it.letter.identity for it in letters if it.sent]
        letters = [it for it in letters if not it.sent]
        end_offsets = self._end_offsets(letters)
        run, at = secrets.token_hex(8), _now()
        self._mark((it, Redrive(by=run, at=at, end=end_offsets[_place(it)])) for it in letters)
        self.read()
        outcome.before += [it.letter.identity for it in letters if it.sent]
        letters = [it for it in letters if not it.sent]
        mine = [it for it in letters if it.claim and it.claim.by == run]
        outcome.elsewhere += [
            it.letter.identity for it in letters if not it.claim or it.claim.by != run
        ]
        sent_before = self._sent_before(mine, end_offsets)
        due = [it for it in mine if it.letter.identity not in sent_before]
        if _now() - at > SEND_SECONDS * 1000:
            raise LettersNotSent(
                "the broker is too slow to say which run has claimed these letters",
                remedy="try again in 1 min",
            )
        offsets = sent_before | self._send(due, outcome)
        outcome.before += list(sent_before)
        self._mark(
            (it, Redrive(by=run, at=_now(), end=it.end_before, sent=offsets[it.letter.identity]))
            for it in mine
            if it.letter.identity in offsets
        )
        self.read()

    def _end_offsets(self, letters: list[Letter]) -> dict[Place, int]:
        """End offset of each partition of the letters' records. Errors: `LettersNotSent`."""
        for topic in {it.letter.topic for it in letters}:
            name = broker_name(self._settings, topic)
            partitions = self._consumer.partitions_for_topic(name) if topic in BY_NAME else None
            highest = max(it.letter.partition for it in letters if it.letter.topic == topic)
            if highest not in (partitions or ()):
                raise LettersNotSent(
                    f"topic {name} has no partition {highest}: its letters cannot be sent"
                )
        places = {topic_partition(self._settings, *it): it for it in map(_place, letters)}
        end_offsets: dict[Any, int] = self._consumer.end_offsets(list(places))
        return {places[it]: end for it, end in end_offsets.items()}

    def _mark(self, marks: Iterator[tuple[Letter, Redrive]]) -> None:
        pending = [
            self._open_producer().send(
                broker_name(self._settings, DEAD_LETTERS.name),
                key=it.letter.identity.encode(),
                value=dead_letters.encode(_marked(it.letter, mark)),
                headers=list(DEAD_LETTERS.headers),
                partition=0,
            )
            for it, mark in marks
        ]
        for future in pending:
            future.get(SEND_SECONDS)

    def _sent_before(self, mine: list[Letter], end_offsets: dict[Place, int]) -> dict[str, int]:
        """Identity -> offset of the records that an earlier claim sent without a mark that says so."""
        found: dict[str, int] = {}
        for place in {_place(it) for it in mine}:
            here = [it for it in mine if _place(it) == place]
            start = min(it.end_before for it in here)
            names = {it.letter.identity for it in here}
            log = Topics(self._settings).read(*place, start, end_offsets[place])
            for batch in log:
                for offset, headers in zip(batch.offsets, batch.headers, strict=False):
                    sent = (dict(headers).get(REDRIVEN) or b"").decode(errors="replace")
                    name = dead_letters.whole_identity(sent)
                    if name in names:
                        found[name] = offset
        return found

    def _send(self, due: list[Letter], outcome: Redriven) -> dict[str, int]:
        pending = []
        for it in due:
            letter, name = it.letter, it.letter.identity
            try:
                value = self._value(letter)
            except OffTheLog:
                outcome.gone.append(name)
                continue
            headers = dead_letters.redriven_headers(name, letter.tries, self._headers(letter))
            future = self._open_producer().send(
                broker_name(self._settings, letter.topic),
                value,
                letter.key,
                headers=headers,
                partition=letter.partition,
            )
            pending.append((name, future))
        offsets = {name: int(future.get(SEND_SECONDS).offset) for name, future in pending}
        outcome.sent += list(offsets)
        return offsets

    def _value(self, letter: DeadLetter) -> bytes | None:
        """The record's bytes, from the letter or its topic. Errors: `OffTheLog` where neither has them."""
        if letter.value is not None or not letter.length:
            return letter.value
        return self._record(letter)[0]

    def _headers(self, letter: DeadLetter) -> Headers:
        """The record's headers; only those that the letter has where the topic does not hold the record."""
        if not letter.headers_too_long:
            return letter.headers
        try:
            return self._record(letter)[1]
        except OffTheLog:
            return letter.headers

    def _record(self, letter: DeadLetter) -> tuple[bytes | None, Headers]:
        """The record's value and headers, read from its topic. Errors: `OffTheLog`."""
        place, at = letter.partition, letter.offset
        (batch,) = Topics(self._settings).read(letter.topic, place, at, at + 1)
        # a frame that could not be spread is one record
        n = letter.index if letter.index < len(batch.offsets) else 0
        return batch.stored_values()[n], batch.headers[n] if batch.headers else ()

    def _open_producer(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = kafka_client.producer(self._settings, batch_size=256 << 10)
        return self._producer

    def close(self) -> None:
        self._consumer.close()
        if self._producer is not None:
            self._producer.close()


def _place(it: Letter) -> Place:
    return it.letter.topic, it.letter.partition


def _marked(letter: DeadLetter, mark: Redrive) -> DeadLetter:
    """A letter of the same identity that carries `mark` and none of the record."""
    return DeadLetter(
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        index=letter.index,
        reason=letter.reason,
        value=None,
        record_at=letter.record_at,
        size=letter.length,
        tries=letter.tries,
        redrive=mark,
    )


def _now() -> int:
    return time.time_ns() // 1_000_000
