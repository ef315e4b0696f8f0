"""The fold of a batch of actions into rows: the kernel gives the bits that numpy gives, whichever folded the
batch before."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.features import compiled, registry, ring
from models.features.act import Acted, act, act_by_numpy
from models.features.columns import ActionColumns
from models.features.overflow import ITEM_BITS, MAX_PER_DAY, Overflow
from models.features.registry import FEATURES, ROW
from schemas.actions import ACTIONS
from schemas.times import DAY_MS

BEGAN = 1_700_006_300_000
"""Not long before the end of a UTC day."""
Fold = Callable[[NDArray[np.void], ActionColumns, dict[int, Overflow]], Acted]
FEATURES_DIR = Path(registry.__file__).parent


class State:
    """The rows of some people, of whom each third slot is one's, and their overflows."""

    def __init__(self, rnd: np.random.Generator, people: int) -> None:
        self.rows, self.overflow = np.zeros(people * 3, ROW), dict[int, Overflow]()
        for slot in range(0, people * 3, 3):
            if rnd.random() < 0.3:
                self.merge(rnd, slot)
            if rnd.random() < 0.1:
                self.fill(rnd, slot)

    def merge(self, rnd: np.random.Generator, slot: int) -> None:
        """Gives the person what another id did: of no session, and some of it taken back."""
        n, row = int(rnd.integers(1, 51)), self.rows[slot]
        columns = (
            BEGAN + rnd.integers(-2000, 0, n) * 1000,
            rnd.integers(1, 12, n) << 20,
            rnd.integers(0, 3, n),
            rnd.integers(0, 3, n),
            rnd.integers(1, 2**32, n),
            rnd.choice([0, ring.COUNTED, ring.COUNTED | ring.BACK, ring.IN_SESSION], n)
            | ring.MERGED,
        )
        ring.merge(row, list(zip(*(it.tolist() for it in columns), strict=True)), n + 3 * (n == 50))
        row["flags"] |= registry.HAS_MERGED

    def fill(self, rnd: np.random.Generator, slot: int) -> None:
        """Gives the person an overflow of two days that has little room left."""
        self.rows["days"][slot] = BEGAN // DAY_MS, BEGAN // DAY_MS - 1
        sizes = MAX_PER_DAY - rnd.integers(0, 8, 2)
        numbers = [
            ((np.arange(size, dtype=np.uint32) + 100) << 9) & ITEM_BITS | place
            for place, size in enumerate(sizes.tolist())
        ]
        self.overflow[slot] = Overflow(np.concatenate(numbers).astype("<u4").tobytes())
        self.rows["flags"][slot] |= registry.OVERFLOW

    def stored(self) -> dict[int, tuple[bytes, list[int], bool]]:
        held = {slot: it.changes()[1] for slot, it in self.overflow.items() if it}
        return {
            slot: (data, self.overflow[slot].sizes, bool(self.rows["flags"][slot] & 2))
            for slot, data in held.items()
        }


def batch(rnd: np.random.Generator, people: int, spread: int, began: int) -> ActionColumns:
    """Up to 9 actions a person, at times anywhere in `spread` minutes: equal, older and late ones."""
    n = int(rnd.integers(1, 9 * people))
    time = began + rnd.integers(0, spread, n) * 60_000 + rnd.integers(0, 2, n)
    if rnd.random() < 0.6:
        time.sort()
    return ActionColumns(
        slot=rnd.integers(0, people, n) * 3,
        offset=np.arange(n),
        item=rnd.integers(1, 12, n).astype(np.uint64) << np.uint64(20),
        category=rnd.integers(0, 3, n).astype(np.uint32) << np.uint32(30),
        time=time,
        received=time + (rnd.random(n) < 0.1) * 8 * DAY_MS,
        action=rnd.integers(0, len(ACTIONS), n).astype(np.uint8),
        session=rnd.integers(0, 3, n).astype(np.uint64),
        identity=rnd.integers(1, 3, n).astype(np.uint32),
        flags=rnd.integers(0, 4, n).astype(np.uint8),
    )


def assert_same(one: Acted, other: Acted) -> None:
    for name in Acted._fields:
        mine, also = getattr(one, name), getattr(other, name)
        assert mine.dtype == also.dtype, name
        assert mine.tobytes() == also.tobytes(), name


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([2, 60, 5000]))
def test_kernel_and_numpy_agree_whichever_folded_before(
    seed: int, people: int, spread: int
) -> None:
    ways: list[list[Fold]] = [[act_by_numpy] * 2, [act] * 2, [act, act_by_numpy]]
    states = [State(np.random.default_rng(seed), people) for _ in ways]
    rnd = np.random.default_rng(seed)
    for number in range(12):
        columns = batch(rnd, people, spread, BEGAN + number % 3 * 40 * 60_000)
        first, *rest = (
            way[number % 2](state.rows, columns, state.overflow)
            for way, state in zip(ways, states, strict=True)
        )
        for other in rest:
            assert_same(first, other)
        for state in states[1:]:
            for name in ROW.names or ():
                assert state.rows[name].tobytes() == states[0].rows[name].tobytes(), name
        assert states[0].stored() == states[1].stored() == states[2].stored()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([2, 60, 5000]))
def test_a_batch_gives_what_its_actions_give_one_by_one(
    seed: int, people: int, spread: int
) -> None:
    whole, single = (State(np.random.default_rng(seed), people) for _ in range(2))
    rnd = np.random.default_rng(seed)
    for _ in range(3):
        columns = batch(rnd, people, spread, BEGAN)
        found = act_by_numpy(whole.rows, columns, whole.overflow)
        verdicts, partners, lags, evicted = [], [], [], []
        for i in range(len(columns.slot)):
            one = ActionColumns._make(column[i : i + 1] for column in columns)
            it = act(single.rows, one, single.overflow)
            verdicts.append(int(it.verdict[0]))
            partners += it.partner.tolist()
            lags += it.lag.tolist()
            evicted += [(int(columns.slot[i]), i, *entry) for entry in it.evicted.tolist()]
        assert found.verdict.tolist() == verdicts
        assert found.partner.tolist() == partners
        assert found.lag.tolist() == lags
        slots = columns.slot[found.evicted_at].tolist()
        gone = zip(slots, found.evicted_at.tolist(), found.evicted.tolist(), strict=True)
        assert [(slot, i, *entry) for slot, i, entry in gone] == sorted(evicted)
        assert whole.rows.tobytes() == single.rows.tobytes()
        assert whole.stored() == single.stored()


@pytest.fixture
def runs() -> compiled.Runs:
    if compiled.RUNS is None:
        pytest.skip("no kernel was built")
    return compiled.RUNS


def test_features_without_a_kernel_are_folded_by_numpy_in_the_same_batch(
    runs: compiled.Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They get the columns, and what the features before them found, as if numpy had folded all."""
    given: list[list[tuple[str, bytes]]] = []

    def look(rows: NDArray[np.void], columns: Any, folded: Any) -> None:
        found = [(name, rows[name].tobytes()) for name in ("counts", "n", "session_n")]
        found += [
            (name, value.tobytes()) for name, value in vars(columns).items() if name != "people"
        ]
        names = ["entered", "before", "in_order", "session_rank", "met", "repeats", "full"]
        names += ["evicted_who", "evicted"]
        found += [(name, getattr(folded, name).tobytes()) for name in names]
        found += [("partners", folded.partners[:, :16].tobytes())]
        given.append(found)

    spy = FEATURES[0]._replace(name="spy", fields=(), update=look, kernel="")
    features = (*FEATURES, spy)
    with_counts_by_numpy = (FEATURES[0]._replace(kernel=""), *FEATURES[1:], spy)
    rnd = np.random.default_rng(3)
    states = [State(np.random.default_rng(3), 9) for _ in range(3)]
    for _ in range(8):
        columns = batch(rnd, 9, 60, BEGAN)
        monkeypatch.setattr(registry, "FEATURES", features)
        by_numpy = act_by_numpy(states[0].rows, columns, states[0].overflow)
        for state, some in zip(states[1:], (features, with_counts_by_numpy), strict=True):
            mixed = compiled.Runs(some)
            monkeypatch.setattr(compiled, "RUNS", mixed)
            assert_same(by_numpy, act(state.rows, columns, state.overflow))
            assert state.rows.tobytes() == states[0].rows.tobytes()
            assert given.pop() == given[-1]
        given.clear()
    assert mixed.by_numpy == ("counts", "spy")
    assert runs.by_numpy == ()


def test_rows_of_any_bytes_are_folded_without_a_fault(runs: compiled.Runs) -> None:
    """`make check` runs it under sanitizers."""
    rnd = np.random.default_rng(5)
    for number in range(60):
        rows = np.frombuffer(rnd.bytes(30 * ROW.itemsize), ROW).copy()
        if number % 2:
            rows["n"] = rnd.choice([0, 1, 49, 50, 2**32 - 1], 30)
        columns = batch(rnd, 10, 60, BEGAN)
        if number % 3 == 0:
            columns = columns._replace(
                time=rnd.integers(-(2**63), 2**63 - 1, len(columns.slot)),
                received=rnd.integers(-(2**63), 2**63 - 1, len(columns.slot)),
                action=rnd.integers(0, 256, len(columns.slot)).astype(np.uint8),
            )
        overflow = {0: Overflow(rnd.bytes(4000)), 27: Overflow(), 28: Overflow(rnd.bytes(8))}
        found = act(rows, columns, overflow)
        assert len(found.at) == int((found.verdict == 0).sum())
        assert len(found.partner) == int(found.pairs.sum())


def test_slots_and_columns_that_do_not_fit_are_refused(runs: compiled.Runs) -> None:
    columns = batch(np.random.default_rng(1), 3, 60, BEGAN)
    for slot in (-1, 9, 2**62):
        wrong = columns.slot.copy()
        wrong[-1] = slot
        with pytest.raises(IndexError):
            act(np.zeros(9, ROW), columns._replace(slot=wrong), {})
    with pytest.raises(ValueError, match="length or type"):
        act(np.zeros(9, ROW), columns._replace(item=columns.item.astype(np.uint32)), {})
    none = ActionColumns._make(column[:0] for column in columns)
    assert_same(act(np.zeros(9, ROW), none, {}), act_by_numpy(np.zeros(9, ROW), none, {}))


def test_constants_in_c_are_those_in_python() -> None:
    from models.features import overflow, session, window
    from models.features.act import LATE_MS
    from schemas.state import facts

    sources = [*FEATURES_DIR.glob("*.c"), FEATURES_DIR.parent / "kernels" / "act.h"]
    text = "\n".join(path.read_text() for path in sources)
    expected = {
        "RING_SIZE": ring.RING_SIZE,
        "ENTRY_SIZE": ring.ENTRY.itemsize,
        "MAX_LAG": window.MAX_LAG,
        "MAX_PARTNERS": window.MAX_PARTNERS,
        "DAY_MS": DAY_MS,
        "GAP_MS": session.GAP_MS,
        "IN_SESSION": ring.IN_SESSION,
        "COUNTED": ring.COUNTED,
        "ROW_HAS_OVERFLOW": registry.OVERFLOW,
        "SAME_SESSION": facts.SAME_SESSION,
        "DAILY_CAP": overflow.DAILY_CAP,
        "MAX_PER_DAY": MAX_PER_DAY,
        "ITEM_BITS": ITEM_BITS,
        "ACTIONS": len(ACTIONS),
    }
    for name, value in expected.items():
        found = re.findall(rf"^#define {name} (\w+)", text, re.MULTILINE)
        assert found, name
        assert {int(it.rstrip("u"), 0) for it in found} == {value}, name
    assert LATE_MS == 7 * DAY_MS
    assert "#define LATE_MS (7 * (int64_t)DAY_MS)" in text


@pytest.mark.parametrize("by", [act, act_by_numpy])
def test_a_code_that_no_action_has_says_nothing(by: Fold) -> None:
    """Stored bytes may be damaged."""
    rnd = np.random.default_rng(3)
    rows = np.zeros(400, ROW)
    rows["version"], rows["n"], rows["ring"]["action"] = registry.VERSION, 50, 200
    rows["ring"]["item"] = rnd.integers(1, 2**63, rows["ring"]["item"].shape)
    acted = by(rows, batch(rnd, 12, 60, 0), {})
    assert not acted.pairs.any() or set(acted.partner.tolist()) <= set(
        rows["ring"]["item"][rows["ring"]["action"] != 200].tolist()
    )
