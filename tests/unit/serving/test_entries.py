"""Writes in segments: a cut loses only entries behind it, and a seized spool is sent in order."""

from __future__ import annotations

import asyncio
import os
import resource
import struct
import tempfile
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.items import (
    DeleteItem,
    Item,
    ItemChange,
    PatchItem,
    PutItem,
    apply,
    decode_item,
    with_primary,
)
from schemas.record import Record
from schemas.topics import ITEMS
from serving.log.orphan_writes import OrphanSpool
from serving.spool.frames import MAX_BATCH_BYTES, MAX_BATCH_RECORDS, Entry, batches, decode, encode
from serving.spool.segments import Directory, Place
from serving.spool.synced import Synced

BYTES = st.binary(max_size=30)
HEADERS = st.lists(st.tuples(st.text(max_size=5), BYTES), max_size=2).map(tuple)
RECORDS = st.lists(st.builds(Record, BYTES, st.integers(0, 65535), BYTES, HEADERS), max_size=8)
RECORD = Record(b"person", 3, b"v" * 60)


def written(records: list[Record]) -> tuple[bytes, list[int]]:
    data, frame_end_offsets = b"", []
    for record in records:
        data += encode("events", [record], 7)
        frame_end_offsets.append(len(data))
    return data, frame_end_offsets


@given(RECORDS)
def test_entries_come_out_as_they_went_in(records: list[Record]) -> None:
    data, frame_end_offsets = written(records)
    assert data == encode("events", records, 7)
    found = list(decode(data))
    assert found == [
        (Entry("events", it, 7), end) for it, end in zip(records, frame_end_offsets, strict=True)
    ]
    assert sum(entry.size for entry, _ in found) == len(data)


def test_a_frame_without_headers_is_read() -> None:
    body = bytes.fromhex("0700000000000000 0300 05 0100 03000000") + b"itemskv12"
    old = struct.pack("<II", len(body), crc32(body)) + body
    new = encode("items", [Record(b"k", 3, b"v12", ITEMS.headers)], 7)
    assert [entry.record for entry, _ in decode(old + new)] == [
        Record(b"k", 3, b"v12"),
        Record(b"k", 3, b"v12", ITEMS.headers),
    ]


@given(RECORDS, st.data())
def test_a_cut_at_any_byte_loses_only_what_lies_behind_it(
    records: list[Record], draw: st.DataObject
) -> None:
    data, frame_end_offsets = written(records)
    cut = draw.draw(st.integers(0, len(data)))
    junk = draw.draw(st.sampled_from([b"", b"\0" * 40, b"\x20\0\0\0\1\2\3\4" + b"x" * 9]))
    held = data[:cut] + junk
    # the first of the junk may be what the cut took
    whole = sum(held[:end] == data[:end] for end in frame_end_offsets)
    with tempfile.TemporaryDirectory() as folder:
        directory = Directory.make(Path(folder))
        directory.segment(1).write_bytes(held)
        directory.segment(2).write_bytes(data)
        orphan = OrphanSpool.measure(directory)
        assert orphan.records == whole + len(records)
        sent = asyncio.run(all_of(orphan))
        assert [entry.record for entry in sent] == records[:whole] + records
        assert directory.segments() == []
        assert directory.remove()


async def all_of(orphan: OrphanSpool) -> list[Entry]:
    return [entry async for batch in orphan.batches() for entry in batch]


def test_a_mark_says_where_to_resume(tmp_path: Path) -> None:
    data, frame_end_offsets = written([RECORD._replace(key=b"%d" % n) for n in range(5)])
    directory = Directory.make(tmp_path)
    directory.segment(3).write_bytes(data)
    directory.mark = Place(3, frame_end_offsets[1])
    orphan = OrphanSpool.measure(directory)
    assert (orphan.records, orphan.bytes, orphan.oldest) == (3, len(data) - frame_end_offsets[1], 7)
    assert [it.record.key for it in asyncio.run(all_of(orphan))] == [b"2", b"3", b"4"]
    assert OrphanSpool.measure(directory).records == 0
    directory.remove()


def test_a_batch_is_bounded_by_number_and_by_bytes() -> None:
    many = [(Entry("events", RECORD, 7), n) for n in range(MAX_BATCH_RECORDS + 1)]
    assert [(len(it.entries), it.end) for it in batches(many)] == [
        (MAX_BATCH_RECORDS, MAX_BATCH_RECORDS - 1),
        (1, MAX_BATCH_RECORDS),
    ]
    large = Entry("items", RECORD._replace(value=b"v" * (MAX_BATCH_BYTES - 1)), 7)
    assert [len(it.entries) for it in batches([(large, 1), (large, 2)])] == [1, 1]


WORDS = st.sampled_from(["", "a", "b", " c "])
ITEM = st.builds(
    Item,
    item_id=st.just("i"),
    title=st.sampled_from(["a", "b"]),
    category=WORDS,
    categories=st.lists(WORDS, max_size=3).map(tuple),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "title": WORDS,
        "text": WORDS,
        "category": WORDS,
        "categories": st.lists(WORDS, max_size=3),
    },
).map(lambda fields: {k: msgspec.Raw(msgspec.json.encode(v)) for k, v in fields.items()})


def changes(creates: bool) -> st.SearchStrategy[list[ItemChange]]:
    """Changes of an item. All of its patches create, or none does: a patch that creates may follow one that
    was dropped, which a repetition would not drop."""
    return st.lists(
        st.one_of(
            st.builds(PutItem, item=ITEM, received_at=st.just(1)),
            st.builds(DeleteItem, item_id=st.just("i"), received_at=st.just(1)),
            st.builds(
                PatchItem,
                item_id=st.just("i"),
                fields=FIELDS,
                received_at=st.just(1),
                creates=st.just(creates),
            ),
        ),
        max_size=6,
    )


CHANGES = changes(True) | changes(False)


@given(st.none() | ITEM, CHANGES)
def test_the_primary_category_is_one_of_the_categories(
    before: Item | None, changes: list[ItemChange]
) -> None:
    item = None if before is None else with_primary(before)
    for change in changes:
        item = apply(change, item)
        if item is not None:
            assert (item.category in item.categories) == bool(item.category or item.categories)
            assert len(set(item.categories)) == len(item.categories)
            assert set(item.categories) <= {"a", "b", "c"}
            assert decode_item(msgspec.json.encode(item)) == item


@given(st.none() | ITEM.map(with_primary), CHANGES, st.data())
def test_changes_of_an_item_repeated_from_a_place_on_end_in_the_same_item(
    before: Item | None, changes: list[ItemChange], draw: st.DataObject
) -> None:
    """A drain that died sends again from its mark on, in order."""
    sent = draw.draw(st.integers(0, len(changes)))
    mark = draw.draw(st.integers(0, sent))
    once = twice = before
    for change in changes:
        once = apply(change, once)
    for change in [*changes[:sent], *changes[mark:]]:
        twice = apply(change, twice)
    assert once == twice


def with_spool(root: Path, most: int = 1 << 20) -> Synced:
    spool = Synced(root, most)
    spool.open()
    assert spool.writable
    return spool


def test_entries_of_one_round_share_a_sync(tmp_path: Path) -> None:
    async def main() -> None:
        spool = with_spool(tmp_path)
        frames = encode("events", [RECORD], 7)
        waiting = [spool.put(frames) for _ in range(10)]
        assert len({id(it) for it in waiting}) == 1
        assert waiting[0] is not None
        assert spool.synced < spool.end
        assert await asyncio.shield(waiting[0])
        assert spool.synced == spool.end == Place(1, 10 * len(frames))
        spool.close(empty=False)

    asyncio.run(main())


def test_beyond_its_bound_a_request_is_refused_whole(tmp_path: Path) -> None:
    async def main() -> None:
        frames = encode("events", [RECORD] * 4, 7)
        spool = with_spool(tmp_path, most=len(frames) + 10)
        assert spool.put(frames) is not None
        assert spool.put(frames) is None
        await spool.settled()
        assert spool.held == len(frames)
        spool.close(empty=False)

    asyncio.run(main())


def test_what_could_not_be_synced_is_cut_and_not_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No descriptor is free for the sync: the sync fails as on a broken disk."""

    async def main() -> None:
        spool = with_spool(tmp_path)
        frames = encode("events", [RECORD], 7)
        kept = spool.put(frames)
        assert kept is not None
        assert await asyncio.shield(kept)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lost = spool.put(frames)
        assert lost is not None
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            assert not await asyncio.shield(lost)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert not spool.writable
        assert spool.put(frames) is None
        assert sum(os.path.getsize(it) for it in tmp_path.glob("*/*.seg")) == len(frames)
        spool.open()
        again = spool.put(frames)
        assert again is not None
        assert await asyncio.shield(again)
        assert (spool.synced, spool.held) == (Place(2, len(frames)), 2 * len(frames))
        spool.close(empty=False)
        [directory] = Directory.orphans(tmp_path)
        assert OrphanSpool.measure(directory).records == 2
        directory.remove()

    asyncio.run(main())
    assert caplog.text.count("writes are refused while the broker is away") == 1
