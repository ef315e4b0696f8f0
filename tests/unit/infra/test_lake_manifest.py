"""A damaged lake: each fault names the object and the remedy."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.lake import errors
from infra.lake.compact import check, compact
from infra.lake.manifest import Span, chain
from infra.lake.reader import Lake
from infra.lake.store import Store
from infra.lake.sweep import sweep
from infra.lake.write import write
from schemas import lake
from schemas.lake import BY_TOPIC
from schemas.topics import EVENTS
from tests.support import lakes
from tests.support.lakes import DAY, HOUR, everything, put

TABLE = BY_TOPIC[EVENTS.name]


@pytest.fixture
def held(tmp_path: Path) -> Lake:
    """A lake of three files of 100 events."""
    made = Lake(Store(str(tmp_path / "lake")))
    put(made, lakes.a_day(300, 9, 3))
    return made


def paths(held: Lake, kind: str) -> list[Path]:
    return [Path(held.store.path(it.name)) for it in sorted(held.store.list(kind))]


def pairs(spans: list[Span]) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in spans]


def test_the_chain_reaches_furthest_by_the_fewest_entries() -> None:
    spans = [Span(*it) for it in ((0, 3), (3, 6), (0, 6), (3, 9), (6, 8), (9, 11), (20, 21))]
    assert pairs(chain(spans)) == [(0, 3), (3, 9), (9, 11)]
    assert pairs(chain([*spans, Span(6, 9)])) == [(0, 3), (3, 9), (9, 11)]
    assert pairs(chain([*spans, Span(0, 9)])) == [(0, 9), (9, 11)]
    assert chain([]) == []


def test_a_hole_is_refused_with_its_offset(held: Lake) -> None:
    paths(held, "manifest")[1].unlink()
    with pytest.raises(errors.LakeHole, match=r"manifest/events/00 has a hole: .* from 100 on"):
        held.bounds(EVENTS.name, 0)


def flip(path: Path) -> None:
    """Flips one byte in the records' values."""
    group = pq.read_metadata(path).row_group(0)
    values = next(it for it in map(group.column, range(20)) if it.path_in_schema == "value")
    data = bytearray(path.read_bytes())
    data[values.data_page_offset + values.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def no_footer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)


def other_rows(path: Path) -> None:
    """A whole Parquet file, but another one; padded to the size of the first."""
    rows = pq.read_table(path).slice(0, 50)
    size = path.stat().st_size
    pq.write_table(rows, path)
    path.write_bytes(path.read_bytes().rjust(size, b"\0")[-size:])


@pytest.mark.parametrize("damage", [flip, cut, no_footer, other_rows])
def test_a_torn_file_is_refused_by_its_name(held: Lake, damage: Callable[[Path], None]) -> None:
    path = paths(held, "data")[1]
    damage(path)
    with pytest.raises(errors.LakeTorn, match=path.name):
        everything(held)
    with pytest.raises(errors.LakeTorn, match=path.name):
        compact(held, EVENTS.name, 0, DAY + 48 * HOUR)
    assert len(held.manifest(EVENTS.name, 0).chain()) == 3, "nothing was merged"
    found = lakes.read(held.read(EVENTS.name, 0, 0, 100))
    assert found.offsets == list(range(100)), "the others are read as ever"


def test_a_file_is_held_to_its_hash(held: Lake) -> None:
    manifest = held.manifest(EVENTS.name, 0)
    entry = manifest.entry(manifest.chain()[1])
    check(held.store, entry)
    flip(Path(held.store.path(entry.name)))
    with pytest.raises(errors.LakeTorn, match=f"{re.escape(entry.name)} is torn: its hash"):
        check(held.store, entry)


def test_a_missing_file_is_refused_by_its_name(held: Lake) -> None:
    path = paths(held, "data")[2]
    path.unlink()
    with pytest.raises(errors.LakeTorn, match=rf"{path.name} is in the manifest and not in"):
        everything(held)
    with pytest.raises(errors.LakeTorn, match=path.name):
        held.select(EVENTS.name)


def test_an_invalid_entry_is_named_and_not_shown(held: Lake) -> None:
    path = paths(held, "manifest")[0]
    path.write_bytes(b'{"version":1,"name":"secret')
    with pytest.raises(errors.LakeTorn, match=path.name) as raised:
        everything(held)
    assert "secret" not in str(raised.value)


def test_entries_and_files_of_another_version_are_refused(
    held: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = paths(held, "manifest")[0]
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":7'))
    with pytest.raises(errors.LakeVersion, match=rf"{path.name} has version 7, this .* version 1"):
        everything(held)
    path.write_bytes(path.read_bytes().replace(b'"version":7', b'"version":1'))
    assert len(everything(held).values) == 300
    with monkeypatch.context() as newer:
        newer.setattr(lake, "VERSION", 8)
        (entry,) = put(held, lakes.a_day(100, 9, 1, start=300))
    assert entry.version == 1
    with pytest.raises(errors.LakeVersion, match=f"{entry.name} has version 8, this"):
        everything(held)


def test_a_full_disk_leaves_only_whole_objects(tmp_path: Path) -> None:
    """Nothing but whole objects is left, and once there is room it goes on."""
    held = Lake(Store(str(tmp_path)))
    (whole,) = lakes.a_day(500, 9, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(errors.LakeFull, match=r"the lake is full: data/events/.* make room"):
            write(held.store, TABLE, [whole], "id", 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(held.store.list("data")) == []
    put(held, [whole])
    assert everything(held).values == whole.values


def read_only(tmp_path: Path) -> Path:
    """A folder that takes no file, not even root's."""
    tmp_path.chmod(0o500)
    return Path("/sys") if os.access(tmp_path, os.W_OK) else tmp_path


def test_a_read_only_disk_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    held = Lake(Store(str(read_only(tmp_path) / "lake")))
    with pytest.raises(errors.LakeReadOnly, match=r"read-only: data/events/.* allow writing"):
        write(held.store, TABLE, lakes.a_day(5, 2, 1), "id", 4)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("url", ["s3s://x", "gopher://s3cret:pw@x"])
def test_an_invalid_url_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(errors.LakeAway, match="FRESHET_LAKE_URL takes") as raised:
        Store(url)
    assert "s3cret" not in str(raised.value)


def test_the_sweep_deletes_files_off_the_chain_once_no_reader_needs_them(held: Lake) -> None:
    put(held, lakes.a_day(100, 9, 1, day=DAY + 24 * HOUR, start=300))
    write(held.store, TABLE, [lakes.batch(50, [b"killed"], [DAY])], "id", 4)  # no fence named it
    write(held.store, TABLE, [lakes.batch(400, [b"to come"], [DAY])], "id", 4)  # one may
    half = Path(held.store.path("data/events/x.half"))
    half.write_bytes(b"half")
    before = everything(held)
    (done,) = compact(held, EVENTS.name, 0, DAY + 30 * HOUR)
    now = max(it.at for it in held.store.list("")) + 1
    assert sweep(held, EVENTS.name, now, 3600) == (0, 0, 0)
    assert len(list(held.store.list("data"))) == 8
    swept = sweep(held, EVENTS.name, now + 3601, 3600)
    assert (swept.entries, swept.objects) == (3, 5)
    assert everything(held)[:5] == before[:5]
    names = [it.name for it in held.store.list("data")]
    assert sorted(names)[0] == done.entry.name
    assert len(names) == 3
    assert pairs(held.manifest(EVENTS.name, 0).chain()) == [(0, 300), (300, 400)]
    assert sweep(held, EVENTS.name, now + 9999, 3600) == (0, 0, 0)


def test_a_reader_goes_on_while_a_day_is_compacted_and_swept(held: Lake) -> None:
    put(held, lakes.a_day(100, 9, 1, day=DAY + 24 * HOUR, start=300))
    before = everything(held)
    reading = held.read(EVENTS.name, 0, 0, 400, 10)
    found = [next(reading)]
    compact(held, EVENTS.name, 0, DAY + 30 * HOUR)
    sweep(held, EVENTS.name, 1e12)
    found += reading
    assert lakes.read(found)[:5] == before[:5]


def test_an_entry_is_repaired_only_where_its_file_is(held: Lake) -> None:
    manifest = held.manifest(EVENTS.name, 0)
    (entry,) = (write(held.store, TABLE, [it], "id", 4) for it in lakes.a_day(50, 9, 1, start=300))
    assert manifest.repair(entry)
    assert not manifest.repair(entry)
    assert held.bounds(EVENTS.name, 0) == (0, 350)
    gone = lake.decode_entry(lake.encode_entry(entry).replace(b"300", b"350", 1))
    gone = lake.ManifestEntry(**{**{f: getattr(gone, f) for f in gone.__struct_fields__},
                           "start": 350, "end": 400, "name": "data/events/gone.parquet"})  # fmt: skip
    with pytest.raises(errors.LakeTorn, match=r"gone.parquet was written and is not there"):
        manifest.repair(gone)
