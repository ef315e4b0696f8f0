"""The memory of imports: 8 bytes for each accepted event, by source, log and day."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.apps.bulk_import import memory
from infra.apps.bulk_import.memory import Memory, SourceInUse
from infra.apps.bulk_import.names import keys

DAY = 20_784
"""2026-11-27."""
Rows = list[tuple[int, int]]
"""(day, hash) of each event."""


def arrays(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    days = np.array([day for day, _ in rows], np.int64)
    hashes = np.array([value for _, value in rows], np.uint64)
    return days, hashes, np.ones(len(rows), bool)


def sent(held: Memory, chunks: list[Rows]) -> list[tuple[int, int, int]]:
    """(day, hash, number) of what an import sends of `chunks`, all of which is accepted."""
    new = []
    for rows in chunks:
        days, hashes, unnamed = arrays(rows)
        found = held.look_up(days, hashes, unnamed)
        fresh = ~found.remembered
        held.append(days[fresh], found.keys[fresh])
        numbers = found.numbers[fresh].tolist()
        new += list(zip(days[fresh].tolist(), hashes[fresh].tolist(), numbers, strict=True))
    return new


def by_hand(imports: list[list[Rows]]) -> list[list[tuple[int, int, int]]]:
    """The slow definition: a set of (day, hash, number) that earlier imports sent, a count of this one."""
    remembered: set[tuple[int, int, int]] = set()
    results = []
    for chunks in imports:
        count: Counter[tuple[int, int]] = Counter()
        new = []
        for row in [row for rows in chunks for row in rows]:
            count[row] += 1
            new.append((*row, count[row]))
        results.append([it for it in new if it not in remembered])
        remembered.update(new)
    return results


ROWS = st.lists(st.tuples(st.integers(DAY, DAY + 3), st.integers(0, 5)), max_size=10)


@given(st.lists(st.lists(ROWS, max_size=5), max_size=4), st.sampled_from([0, 64, 1 << 20]))
def test_an_import_sends_what_no_earlier_one_sent(
    tmp_path_factory: pytest.TempPathFactory, imports: list[list[Rows]], held_bytes: int
) -> None:
    """Also where hardly a day is held, so that each is read again and again."""
    folder = tmp_path_factory.mktemp("memory")
    for chunks, expected in zip(imports, by_hand(imports), strict=True):
        spill = tmp_path_factory.mktemp("spill")
        assert sent(Memory(folder, spill, held_bytes=held_bytes), chunks) == expected


def test_a_file_a_day_with_8_bytes_an_event(tmp_path: Path) -> None:
    with memory.opened(tmp_path, "shop", "log") as held:
        sent(held, [[(DAY, 1), (DAY + 1, 2), (DAY, 3)], [(DAY, 4)]])
    files = {it.name: it.stat().st_size for it in (tmp_path / "imports/shop/log").iterdir()}
    assert files == {"2026-11-27": 24, "2026-11-28": 8}


def test_an_entry_that_was_cut_is_cut_off(tmp_path: Path) -> None:
    with memory.opened(tmp_path, "shop", "log") as held:
        sent(held, [[(DAY, 1), (DAY, 2)]])
    file = tmp_path / "imports/shop/log/2026-11-27"
    file.write_bytes(file.read_bytes()[:-3])
    with memory.opened(tmp_path, "shop", "log") as held:
        assert sent(held, [[(DAY, 1), (DAY, 2), (DAY, 3)]]) == [(DAY, 2, 1), (DAY, 3, 1)]
    assert file.stat().st_size == 24
    with memory.opened(tmp_path, "shop", "log") as held:
        assert sent(held, [[(DAY, 1), (DAY, 2), (DAY, 3)]]) == []


def test_events_with_ids_of_their_own_are_not_counted_among_equals(tmp_path: Path) -> None:
    days, hashes = np.full(2, DAY), np.array([7, 7], np.uint64)
    with memory.opened(tmp_path, "shop", "log") as held:
        found = held.look_up(days, hashes, np.zeros(2, bool))
    assert found.numbers.tolist() == [1, 1]
    assert found.keys.tolist() == keys(hashes, np.ones(2, np.int64)).tolist() == [7, 7]


def test_each_source_and_each_log_has_a_memory_of_its_own(tmp_path: Path) -> None:
    for source, log in (("shop", "one"), ("shop", "two"), ("blog", "one")):
        others = memory.other_logs(tmp_path, source, log)
        assert others == (1 if (source, log) == ("shop", "two") else 0)
        with memory.opened(tmp_path, source, log) as held:
            assert sent(held, [[(DAY, 1)]]) == [(DAY, 1, 1)]
    assert memory.other_logs(tmp_path, "shop", "two") == 0, "this log has a memory"


def test_one_import_of_a_source_runs_at_a_time(tmp_path: Path) -> None:
    with memory.opened(tmp_path, "shop", "log"):
        with pytest.raises(SourceInUse, match="another import of the source shop runs: wait"):
            memory.opened(tmp_path, "shop", "other").__enter__()
        with memory.opened(tmp_path, "blog", "log"):
            pass
        with memory.opened(tmp_path, "shop", "log", read_only=True) as held:
            assert sent(held, [[(DAY, 1)]]) == [(DAY, 1, 1)]
    assert list((tmp_path / "imports/shop/log").iterdir()) == [], "what only reads adds nothing"
    with memory.opened(tmp_path, "shop", "log"):
        pass
