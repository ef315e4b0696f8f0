"""A partition in memory is the sequence of its records, however it is cut."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.offline.boundaries import boundaries
from flows.offline.history import Cut, Log, fold
from flows.offline.records import (
    IN_CATALOGUE,
    IN_EXPERIMENT,
    NO_ACTION,
    OF_SLATE,
    RECORDS_PER_BLOCK,
    Records,
    person_hash,
)
from schemas import events
from schemas.events import Action, Served
from schemas.identity import item_hash
from tests.laws.world import T0, person
from tests.support.offline import crowd, settings_in

MADE = [(3 * n + 7, T0 + n, event) for n, event in enumerate(crowd(RECORDS_PER_BLOCK + 500))]


def test_the_records_are_those_that_were_given_of_every_kind() -> None:
    held = Records(MADE[:1200])
    held.extend(MADE[1200:])
    assert len(held) == len(MADE)
    assert list(held) == MADE
    assert (held[0], held[-1], held[2100]) == (MADE[0], MADE[-1], MADE[2100])
    assert list(held[1990:2010]) == held.between(1990, 2010) == MADE[1990:2010]
    assert list(held[::7]) == MADE[::7]
    assert held.next == MADE[-1][0] + 1
    with pytest.raises(IndexError):
        held[len(MADE)]
    assert (len(Records()), list(Records()), Records().next) == (0, [], 0)


def test_a_view_of_a_view_shares_the_records() -> None:
    held, chance = Records(MADE), random.Random(1)
    mask = np.array([chance.random() < 0.5 for _ in MADE])
    once = held.where(mask)
    chosen = [record for record, keep in zip(MADE, mask, strict=True) if keep]
    assert list(once) == chosen
    assert list(once.where(np.arange(len(once)) % 3 == 0)) == chosen[::3]
    once.append((9_999_999, T0, MADE[0][2]))  # to go on with a view leaves the other as it was
    assert (len(once), len(held)) == (len(chosen) + 1, len(MADE))


def test_columns_say_what_the_events_say() -> None:
    rows = Records(MADE).rows()
    for row, (offset, time, event) in zip(rows, MADE, strict=True):
        assert (row["offset"], row["person"]) == (offset, person_hash(event.person))
        if isinstance(event, Action):
            assert row["time"] == event.occurred_at
            assert row["item"] == item_hash(event.item_id)
            assert bool(row["flags"] & IN_CATALOGUE) == event.known
            assert bool(row["flags"] & OF_SLATE) == bool(event.slate_id)
        else:
            assert (row["time"], row["action"], row["item"]) == (time, NO_ACTION, 0)
            experiment = isinstance(event, Served) and event.experiments
            assert bool(row["flags"] & IN_EXPERIMENT) == bool(experiment)


def test_an_event_costs_a_seventh_of_its_object() -> None:
    held = Records(MADE)
    assert held.nbytes / len(held) < 587 / 7


@given(st.lists(st.integers(0, 3), max_size=30), st.data())
def test_a_state_is_read_between_its_persons_records(
    people: list[int], data: st.DataObject
) -> None:
    cut = st.tuples(st.integers(0, len(people)), st.integers(0, 4))
    cuts, most = data.draw(st.lists(cut, max_size=10)), data.draw(st.integers(1, 9))
    places, of = ([each[i] for each in cuts] for i in (0, 1))
    stops, read_at = boundaries(
        np.array(people, np.uint64), np.array(places, np.int64), np.array(of, np.uint64), most
    )
    assert stops == sorted(set(stops))
    assert stops[-1] == len(people)
    assert all(end - first <= most for first, end in zip([0, *stops], stops, strict=False))
    for place, whose, end in zip(places, of, read_at, strict=True):
        assert end in {0, *stops}
        assert people[:place].count(whose) == people[:end].count(whose)
    assert len(stops) <= len(people) // most + 2 + len({*places})


def test_one_fold_reads_the_state_that_a_shorter_log_ends_with(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    log = Log([Records((n, T0 + n, event) for n, event in enumerate(crowd(300)))], [])
    people = sorted({event.person for _, _, event in log.events[0]} - {""})
    cuts = [Cut(0, at, each) for at in range(0, 301, 23) for each in people]
    states, _ = fold(log, cuts, settings)
    for at in range(0, 301, 23):
        mine = [cut for cut in cuts if cut.offset == at]
        alone, _ = fold(log._replace(events=[log.events[0][:at]]), mine, settings)
        assert {cut: states[cut] for cut in mine} == alone


def test_what_a_record_says_survives_being_packed() -> None:
    event = Action(
        event_id="e",
        person=person(1),
        item_id="café\n",
        action="rate",
        occurred_at=1,
        received_at=2,
        value=2.5,
        scale=events.Scale(1, 5),
        negative=True,
        context={"page": 1, "x": None},
    )
    assert list(Records([(0, 5, event)])) == [(0, 5, event)]
