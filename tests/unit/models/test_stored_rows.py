"""The stored form of rows: numpy's bytes are the kernel's, and both read what either wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.features import registry, ring, stored
from models.features.registry import ROW, VERSION, ForeignRow, pack_rows, read_row, read_rows
from models.features.ring import ENTRY, RING_SIZE

FORM = stored.Form(ROW, VERSION)


def rows_of(seed: int, people: int) -> NDArray[np.void]:
    """Rows with up to 50 entries, as folds make them, but for a few that no fold makes."""
    rnd = np.random.default_rng(seed)
    rows = np.zeros(people, ROW)
    for i, row in enumerate(rows):
        n = int(rnd.choice([0, 1, 3, 49, 50]))
        rows["n"][i] = n + (n == RING_SIZE) * int(rnd.choice([0, 7, 2**32 - 51]))
        many = int(rnd.choice([1, 16, 17, 2**32]))
        made = np.zeros(n, ENTRY)
        made["time"] = np.sort(rnd.integers(0, 2**32, n))
        made["ms"] = rnd.choice([0, 0, 999]) if rnd.random() < 0.5 else rnd.integers(0, 1000, n)
        made["item"], made["identity"] = rnd.integers(0, 2**63, n), rnd.integers(0, 2**32, n)
        made["category"] = rnd.integers(0, many, n)
        made["action"], made["flags"] = rnd.integers(0, 15, n), rnd.integers(0, 16, n)
        for name, value in (("ms", 1000), ("action", 16), ("flags", 16), ("time", 0)):
            if n and rnd.random() < 0.05:
                made[name][-1] = value
        made = np.sort(made, order=["time", "ms"]) if rnd.random() < 0.9 else made
        slots = (int(rows["n"][i]) - n + np.arange(n)) % RING_SIZE
        row["ring"][slots] = made
        for name in ROW.names or ():
            if name not in ("n", "ring") and rnd.random() < 0.5:
                raw = np.frombuffer(rnd.bytes(row[name].nbytes), rows[name].dtype.base)
                rows[name][i] = raw.reshape(row[name].shape)
    rows["version"] = VERSION
    return rows


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_both_ways_store_the_same_bytes_and_read_them(seed: int, people: int) -> None:
    rows = rows_of(seed, people)
    blobs = FORM.pack(rows)
    assert blobs == FORM.pack_by_numpy(rows)
    for read, first_wrong in (FORM.read(blobs), FORM.read_by_numpy(blobs)):
        assert first_wrong == people
        assert read.tobytes() == rows.tobytes()
    assert [read_row(blob).tobytes() for blob in blobs] == [row.tobytes() for row in rows]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_both_ways_refuse_the_same_bytes(seed: int) -> None:
    """Blobs that are cut, longer, or changed in a byte."""
    rnd = np.random.default_rng(seed)
    (blob,) = FORM.pack(rows_of(seed, 1))
    wrong = bytearray(blob)
    what = rnd.integers(0, 4)
    if what == 0:
        del wrong[int(rnd.integers(0, len(wrong))) :]
    elif what == 1:
        wrong += rnd.bytes(int(rnd.integers(1, 9)))
    else:
        wrong[int(rnd.integers(0, len(wrong) if what == 2 else 7))] = int(rnd.integers(0, 256))
    one, other = FORM.read([bytes(wrong)]), FORM.read_by_numpy([bytes(wrong)])
    assert one[1] == other[1]
    if one[1]:
        assert one[0].tobytes() == other[0].tobytes()


def test_a_row_of_the_version_before_is_read() -> None:
    rows = rows_of(4, 20)
    sizes = FORM.fixed + np.minimum(rows["n"], RING_SIZE).astype(np.int64) * ENTRY.itemsize
    before = [
        b"\2\0" + row.tobytes()[2:size] for row, size in zip(rows, sizes.tolist(), strict=True)
    ]
    assert read_rows(before).tobytes() == rows.tobytes()
    for wrong in (before[0][:50], before[0] + bytes(ROW.itemsize)):
        with pytest.raises(ForeignRow, match="no row"):
            read_rows([wrong])


@pytest.mark.parametrize("blob", [b"", b"\3", b"half a transaction", b"\3\0\1", b"\3\0\0\0\0\0"])
def test_what_is_no_row_is_refused(blob: bytes) -> None:
    with pytest.raises(ForeignRow):
        read_row(blob)
    with pytest.raises(ForeignRow):
        read_rows([None, blob])


def test_nobody_has_zeros() -> None:
    assert not any(read_row(None).tobytes())
    assert read_rows([]).shape == (0,)
    assert pack_rows(np.zeros(0, ROW)) == []


def test_a_full_list_takes_three_fifths_of_its_bytes_in_memory() -> None:
    """Of a person who acted once a minute on items of ten categories."""
    rnd = np.random.default_rng(0)
    rows: Any = np.zeros(1, ROW)
    rows["version"], rows["n"], rows["counts"][0][:3] = VERSION, 70, (60, 9, 1)
    rows["first"] = rows["newest"] = rows["session_last"] = 1_700_000_000_000
    number = np.arange(RING_SIZE)
    made = np.zeros(RING_SIZE, ENTRY)
    made["time"], made["ms"] = 1_700_000_000 + 60 * number, rnd.integers(0, 1000, RING_SIZE)
    for name in ("item", "identity"):
        made[name] = rnd.integers(0, 2**32, RING_SIZE, np.uint64)
    made["item"] <<= np.uint64(20)
    made["category"] = rnd.integers(0, 10, RING_SIZE) + 2**31
    made["action"], made["flags"] = rnd.choice([0, 0, 1, 2], RING_SIZE), ring.IN_SESSION | 2
    rows["ring"][0][(70 + number) % RING_SIZE] = made
    (blob,) = pack_rows(rows)
    assert len(blob) < 0.69 * ROW.itemsize
    assert registry.read_row(blob).tobytes() == rows.tobytes()
