"""The log for training: whom it learns from, and what it says of a log that is of no use."""

from __future__ import annotations

import numpy as np
import pytest

from flows.offline.history import Log, Record
from flows.offline.records import Records
from infra.apps.train.log import TimeSplit, TooLittle, cut, interactions, split_by_time
from schemas.events import Action, Event
from schemas.identity import item_hash
from tests.laws.world import T0, action, assigned, person, served

PARTITIONS = 2
HOUR = 3_600_000


def log_of(made: list[Event]) -> Log:
    """The log of events in their order, each in the partition of its person."""
    partitions: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    for n, event in enumerate(made):
        records = partitions[int(event.person[-4:], 16) % PARTITIONS]
        records.append((len(records), T0 + n, event))
    return Log([Records(records) for records in partitions], [])


def audience(people: int = 60, each: int = 40) -> list[Event]:
    """Everyone clicks on an item every hour."""
    return [
        action(people * n + p, p, f"i{(7 * p + n) % 300}", "click", at=T0 + n * HOUR + p * 1000)
        for n in range(each)
        for p in range(people)
    ]


def split(log: Log) -> TimeSplit:
    return split_by_time(log, interactions(log), 5_000, 1_500)


def test_a_target_names_the_record_and_the_person_of_its_choice() -> None:
    log = log_of(audience())
    found = split(log)
    assert found.train
    assert found.judge
    for target in (*found.train, *found.judge):
        offset, _, event = log.events[target.partition][target.offset]
        assert isinstance(event, Action)
        assert (offset, event.person) == (target.offset, target.person)
        assert (item_hash(event.item_id), event.occurred_at) == (target.item, target.now)


def test_a_bot_of_20_000_acts_does_not_stop_training() -> None:
    people = audience()
    bot: list[Event] = [
        action(10**6 + n, 999, f"b{n}", "click", at=T0 + 5 * HOUR + n * 1000) for n in range(20_000)
    ]
    alone, found = split(log_of(people)), split(log_of(people + bot))
    assert found.dropped["bot"] == 20_000
    assert (found.learnt, found.judged) == (alone.learnt, alone.judged)
    assert person(999) not in {target.person for target in (*found.train, *found.judge)}


def test_what_an_experiment_showed_is_not_learnt_from() -> None:
    shown = [
        served("plain", ["x1", "x2"], 1, T0),
        served("tried", ["y1", "y2"], 2, T0, experiments=(assigned(),)),
    ]
    clicks = [
        action(10**6, 1, "x1", "click", at=T0 + 1, slate_id="plain"),
        # a slate of the anonymous id that the person was before lies in another partition
        action(10**6 + 1, 3, "y1", "click", at=T0 + 1, slate_id="tried"),
        action(10**6 + 2, 2, "y2", "click", at=T0 + 1),
    ]
    found = interactions(log_of([*shown, *clicks]))
    assert found.dropped == {"in_experiment": 1}
    assert set(found.item.tolist()) == {item_hash("x1"), item_hash("y2")}


def test_what_does_not_decode_is_counted() -> None:
    found = split(log_of(audience())._replace(undecodable=3))
    assert found.dropped["undecodable"] == 3
    assert "undecodable" not in split(log_of(audience())).dropped


def test_quarantined_people_are_not_learnt_from() -> None:
    log = log_of(audience(people=5, each=4))
    found = interactions(log, {person(3), person(4)})
    assert found.dropped == {"quarantined": 8}
    assert len(found.time) == 12


@pytest.mark.parametrize("until", ["1980-01-01T00:00:00Z", "0.0"])
def test_an_end_before_everything_leaves_nothing_to_learn_from(until: str) -> None:
    empty = cut(log_of(audience()), until)
    assert [len(records) for records in empty.events] == [0, 0]
    with pytest.raises(TooLittle, match="nothing that a person did"):
        split(empty)


@pytest.mark.parametrize("until", ["2099-01-01T00:00:00Z", "999999.999999"])
def test_an_end_after_everything_leaves_the_whole_log(until: str) -> None:
    whole = log_of(audience())
    later = cut(whole, until)
    assert [list(each) for each in later.events] == [list(each) for each in whole.events]
    assert split(later) == split(whole)


def test_a_log_without_partitions_or_actions_is_refused() -> None:
    for log in (Log([], []), Log([Records()], []), log_of([served("s", ["i"], 1, T0)])):
        with pytest.raises(TooLittle, match="nothing that a person did"):
            split(log)


def test_a_person_of_10_000_acts_is_no_bot_and_is_one_of_many() -> None:
    busy: list[Event] = [
        action(10**6 + n, 998, f"p{n}", "click", at=T0 + n * 14_000) for n in range(10_000)
    ]
    log = log_of(audience() + busy)
    found = split(log)
    assert "bot" not in found.dropped
    of_person = [target.person for target in found.judge].count(person(998))
    assert 0 < of_person <= 20
    assert np.unique([target.person for target in found.judge]).size > 10
