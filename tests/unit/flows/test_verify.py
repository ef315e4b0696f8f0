"""`freshet verify` without a service: differences, reports, the walk through a log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.offline.fold import Offline
from flows.people.fold import VERSION
from flows.verify.basis import Shortened
from flows.verify.partition import CheckTask, walk_of
from flows.verify.repeat import export
from flows.verify.report import MAX_LISTED, Findings, Mismatch, Report, brief, difference
from flows.verify.walk import Walk
from infra.cli.main import cli
from infra.local.plan import plan
from infra.log_reader import Batch
from infra.metrics import ProcessMetrics
from infra.settings import BadSetting, Settings, from_environment
from models.reference.partition import Partition
from models.reference.sample import Sample
from models.reference.sums import Landmarks, Sums
from schemas import events
from schemas.keys import PLAIN
from schemas.state.counting import BUILT_IN
from schemas.state.fences import Fence
from schemas.state.tables import PairCounting
from tests.laws.world import T0, action, person


class Held:
    """A log of one partition, from `start` on."""

    def __init__(self, values: list[bytes], keys: list[bytes], start: int = 0) -> None:
        self._values, self._keys, self._start = values, keys, start

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self._start, self._start + len(self._values)

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        places = range(start, end)
        values: list[bytes | None] = [self._values[n - self._start] for n in places]
        keys: list[bytes | None] = [self._keys[n - self._start] for n in places]
        yield Batch(
            partition, start, end, list(places), [T0 + n for n in places], values, keys=keys
        )


def log(n: int = 60, start: int = 0) -> Held:
    made = [action(i, i % 7, f"i{i % 5}") for i in range(n)]
    values = [events.encode(it) for it in made]
    values[3] = b'{"kind":"action"'  # went to the dead letters
    return Held(values, [it.person.encode() for it in made], start)


def test_a_difference_is_named_by_its_place() -> None:
    assert difference({"a": [1, (2, 3.0)]}, {"a": (1, [2, 3.0 + 1e-9])}) is None
    there = difference({"a": [1, (2, 3)]}, {"a": [1, (2, 4)]})
    assert there is not None
    assert (there.place, there.stored, there.expected) == (".a[1][1]", 3, 4)
    there = difference([1], [1, 2])
    assert there is not None
    assert (there.place, there.stored, there.expected) == (" length", 1, 2)
    assert difference(0.0, 1e-300, tiny=1e-290) is None
    assert difference(1.0, 1.0 + 1e-5) is not None


def test_a_difference_of_two_rows_of_sums_names_the_field() -> None:
    found = Findings()
    held, expected = {1: 1.0, 2: 2.0, 3: 3.0}, {1: 1.0 + 1e-12, 2: 2.1, 4: 4.0}
    found.compare_sums("pairs", "sum", held, expected, b"k", place="7", close=1e-9, tiny=0.0)
    wrong = {(it.field, it.stored, it.expected) for it in found.mismatches()}
    assert wrong == {("7 2 sum", 2.0, 2.1), ("7 3 sum", 3.0, None), ("7 4 sum", None, 4.0)}
    assert found.fields == 4


def test_a_pair_has_a_sum_for_each_order() -> None:
    one, other = Sums(Landmarks.at(0.0)), Sums(Landmarks.at(0.0))
    one.pairs = {1: {2: [1.0, 1.5, 2.0, 3.0]}, 2: {1: [0.5, 0.0, 0.0, 0.0]}}
    other.pairs = {2: {1: [0.25, 1.0, 0.0, 4.0]}, 3: {1: [0.0, 0.0, 0.0, 8.0]}}
    total = Sums.of([one, other])
    session = PairCounting(lag_power=0.5, backward=0.0, gap="session")
    assert total.partners(session) == {
        1: {2: (1.0, 0.75), 3: (0.0, 0.0)},
        2: {1: (0.75, 1.0)},
        3: {1: (0.0, 0.0)},
    }
    assert total.partners(BUILT_IN.pairs) == {
        1: {2: (4.5, 5.0), 3: (0.0, 8.0)},
        2: {1: (5.0, 4.5)},
        3: {1: (8.0, 0.0)},
    }
    assert one.pairs == {1: {2: [1.0, 1.5, 2.0, 3.0]}, 2: {1: [0.5, 0.0, 0.0, 0.0]}}


def test_a_report_shows_the_length_of_a_text_unless_it_is_a_pseudonym() -> None:
    assert brief("somebody@example.org") == "text of 20"
    assert brief(person(5)) == person(5)
    assert brief(b"abc") == "3 bytes"


def test_a_report_is_bounded_however_much_is_wrong() -> None:
    found = Findings()
    for n in range(3 * MAX_LISTED):
        found.compare("seen", "value", n, n + 1)
    mismatches = found.mismatches()
    assert len(mismatches) == MAX_LISTED + 1
    assert (mismatches[-1].stored, mismatches[-1].expected) == (2 * MAX_LISTED, 0)
    assert found.fields == 3 * MAX_LISTED


def test_a_walk_that_skips_people_finds_the_same_of_those_it_keeps() -> None:
    every = Walk(log(), 0, Partition(10**9, Sample(3, 1), Sums(Landmarks.at(T0 / 1000))))
    some = Walk(log(), 0, Partition(10**9, Sample(3, 1)))
    for walk in (every, some):
        walk.advance_to(20)
        walk.advance_to(60)
        assert (walk.events, walk.newest) == (60, T0 + 59)
    assert len(every.reference.people) == 7
    assert every.reference.checked.keys() == some.reference.checked.keys()
    for name, one in every.reference.checked.items():
        assert one.features() == some.reference.checked[name].features()


def test_an_undecodable_record_moves_no_window() -> None:
    """Fold and slow definition end in the same newest time."""
    good, poison = events.encode(action(0)), b"{"
    held = Held([good, good, poison], [b"k"] * 3)
    fence = Fence("t", 1, 0, 0, VERSION)
    whole = Offline(Settings(), 0, fence)
    for batch in held.read("events", 0, 0, 3):
        whole.fold(batch)
    assert whole.fence.newest == T0 + 1
    for sums in (Sums(Landmarks.at(T0 / 1000)), None):
        walk = Walk(held, 0, Partition(10**9, Sample(0, 1), sums))
        walk.advance_to(3)
        assert (walk.events, walk.newest) == (3, T0 + 1)


def test_a_log_without_its_beginning_is_refused() -> None:
    task = CheckTask(Settings(), log(start=5), 2, PLAIN, None, 0, [], Landmarks.at(0.0))
    with pytest.raises(Shortened, match="partition 2 of the log starts at 5"):
        walk_of(task, None)


def test_prometheus_gets_the_count_of_what_was_found() -> None:
    telemetry = ProcessMetrics("flows")
    wrong = Mismatch(what="seen", field="value", stored=1, expected=2)
    export(telemetry, Report(partitions=[0], fields_checked=40, mismatches=[wrong]))
    text = telemetry.render().decode()
    assert "freshet_verify_mismatches 1.0" in text
    assert "freshet_verify_fields 40.0" in text
    export(telemetry, Report(partitions=[0], fields_checked=41))
    assert "freshet_verify_mismatches 0.0" in telemetry.render().decode()


def test_up_runs_verify_where_it_is_switched_on(tmp_path: Path) -> None:
    asked = plan(tmp_path, {"FRESHET_VERIFY_SECONDS": "60"})
    assert "verify" in asked.metrics_ports
    assert "verify" not in plan(tmp_path, {}).metrics_ports
    with pytest.raises(BadSetting, match="FRESHET_VERIFY_SECONDS"):
        from_environment({"FRESHET_VERIFY_SECONDS": "0.5"})


@pytest.mark.parametrize("options", [["--every", "5", "--sums"], ["--partition", "9"]])
def test_a_bad_option_is_a_usage_error(options: list[str]) -> None:
    result: Any = CliRunner().invoke(
        cli, ["verify", *options], env={"KAFKA_BOOTSTRAP": "127.0.0.1:1", "REDIS_URL": "redis://x"}
    )
    assert result.exit_code == 2
