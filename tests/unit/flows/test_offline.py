"""The offline fold equals the flow's, for any batches, from any place on."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.offline.fold import Offline
from infra.log_reader import Batch
from schemas import events
from schemas.keys import PLAIN
from tests.laws.world import T0, action, fold_log, person
from tests.support.offline import HOUR, POISON, crowd, folded, log_of, relayed, settings_in, start


@pytest.mark.parametrize("partition", [0, 1])
def test_the_state_is_that_of_the_fold_whatever_the_batches(tmp_path: Path, partition: int) -> None:
    settings, log = settings_in(tmp_path), log_of(crowd(500))
    records = [
        (offset, timestamp, events.decode(value, timestamp))
        for offset, (timestamp, value) in enumerate(log.partitions[partition])
        if value != POISON
    ]
    plain = fold_log(records, [7], partition=partition, strangers=settings.strangers)
    for size in (20_000, 13):
        made = folded(settings, log, partition, size)
        assert made.state == plain.values
        assert made.received == plain.hashes.get(PLAIN.received(partition), {})
        assert [it.id for it in made.outbox] == [
            id_ for id_, _ in plain.streams.get(PLAIN.outbox(partition), [])
        ]
        assert dict(made.pairs()) == made.state
        assert list(made.pairs()) == sorted(made.pairs())


@pytest.mark.parametrize("cut", [1, 190])
def test_an_offline_fold_resumes_from_the_state_of_another(tmp_path: Path, cut: int) -> None:
    settings, log = settings_in(tmp_path), log_of(crowd(500))
    log = relayed(settings, log, T0 + 100 * HOUR)
    whole = folded(settings, log, 1, 100)
    first = start(settings, 1)
    for batch in log.read("events", 1, 0, cut, 50):
        first.fold(batch)
    again = Offline(settings, 1, first.fence, first.state, first.received, first.tallies)
    for batch in log.read("events", 1, cut, log.end_offsets[1], 200):
        again.fold(batch)
    assert whole.received  # merges came
    assert (again.state, again.received) == (whole.state, whole.received)
    assert again.tallies == whole.tallies
    assert again.fence == whole.fence
    assert [it.id for it in first.outbox + again.outbox] == [it.id for it in whole.outbox]


def test_a_state_that_was_given_stays_as_it_was(tmp_path: Path) -> None:
    settings, log = settings_in(tmp_path), log_of(crowd(200))
    first = folded(settings, log, 0)
    state = first.state
    before = dict(state)
    again = Offline(settings, 0, first.fence, state, first.received)
    one = events.encode(action(10_000, 3, "a new one"))
    at = first.fence.offset
    again.fold(Batch(0, at, at + 1, [at], [first.fence.newest], [one]))
    assert state == before
    assert again.state != before


def test_dead_letters_are_counted_and_duplicates_are_not_folded(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    made, value = start(settings, 0), events.encode(action(1))
    entry = made.fold(Batch(0, 0, 5, [0, 1, 2, 3, 4], [T0] * 5, [value, POISON, None, value, b"1"]))
    assert (made.events, made.dead.total(), len(entry.actions.item)) == (5, 3, 1)
    assert made.dead["empty"] == 1
    assert made.get(PLAIN.row(0, person(1))) is not None
    assert not any(key.startswith(b"v:") for key in made.state)


def test_a_batch_that_does_not_come_next_is_refused(tmp_path: Path) -> None:
    made = start(settings_in(tmp_path), 0)
    with pytest.raises(ValueError, match="starts at 3, the fold is at 0"):
        made.fold(Batch(0, 3, 4, [3], [T0], [events.encode(action(1))]))
