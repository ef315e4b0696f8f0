"""The spool: frames survive any cut, segments go as they are acknowledged, a dead worker's are seized."""

from __future__ import annotations

import errno
import logging
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import SLATES
from serving.spool.segments import START, Directory, Frame, Place, decode, encode
from serving.spool.spool import MAX_SEGMENT_SECONDS, Spool

BYTES = st.binary(max_size=40)
HEADERS = st.lists(st.tuples(st.text(max_size=5), BYTES), max_size=2).map(tuple)
FRAMES = st.lists(st.builds(Frame, BYTES, BYTES, BYTES, BYTES, HEADERS, HEADERS), max_size=8)
FRAME = Frame(b"slate", b"x" * 70, b"person", b"y" * 10)


def written(frames: list[Frame]) -> tuple[bytes, list[int]]:
    """The bytes of a segment, and the end offset of each frame."""
    data, frame_end_offsets = b"", []
    for frame in frames:
        data += encode(frame)
        frame_end_offsets.append(len(data))
    return data, frame_end_offsets


def in_directory(directory: Directory) -> list[Frame]:
    return [f for n in directory.segments() for f, _ in decode(directory.read(n))]


@given(FRAMES)
def test_frames_come_out_as_they_went_in(frames: list[Frame]) -> None:
    data, frame_end_offsets = written(frames)
    assert list(decode(data)) == list(zip(frames, frame_end_offsets, strict=True))
    assert [frame.size for frame in frames] == [len(encode(frame)) for frame in frames]
    for start, end in zip(range(len(frames)), frame_end_offsets, strict=True):
        assert [frame for frame, _ in decode(data, end)] == frames[start + 1 :]


def test_a_frame_without_headers_is_read() -> None:
    body = struct.pack("<HIHI", 5, 2, 1, 3) + b"slate" + b"{}" + b"p" + b"{ }"
    old = struct.pack("<II", len(body), crc32(body)) + body
    new = Frame(b"slate", b"{}", slate_headers=SLATES.headers)
    assert [frame for frame, _ in decode(old + encode(new))] == [
        Frame(b"slate", b"{}", b"p", b"{ }"),
        new,
    ]


@given(FRAMES, st.data())
def test_every_whole_frame_of_a_cut_segment_is_read(
    frames: list[Frame], draw: st.DataObject
) -> None:
    data, frame_end_offsets = written(frames)
    cut = draw.draw(st.integers(0, len(data)))
    assert [end for _, end in decode(data[:cut])] == [
        end for end in frame_end_offsets if end <= cut
    ]


@given(FRAMES.filter(len), st.data())
def test_a_changed_byte_cuts_the_segment_before_its_frame(
    frames: list[Frame], draw: st.DataObject
) -> None:
    data, frame_end_offsets = written(frames)
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255))]) + data[at + 1 :]
    assert [end for _, end in decode(changed)] == [end for end in frame_end_offsets if end <= at]


def opened(root: Path, most: int = 1 << 20, segment: int = 1 << 20, clock: float = 0) -> Spool:
    spool = Spool(root, most, segment, lambda: clock)
    spool.open()
    assert spool.writable
    return spool


def fill(spool: Spool, n: int) -> list[Place]:
    places = [spool.append(encode(FRAME)) for _ in range(n)]
    assert None not in places
    return [place for place in places if place is not None]


def test_segments_go_when_all_of_them_is_acknowledged(tmp_path: Path) -> None:
    size = FRAME.size
    spool = opened(tmp_path, segment=3 * size)
    places = fill(spool, 7)
    assert [(p.segment, p.offset // size) for p in places] == [
        (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1),
    ]  # fmt: skip
    assert (spool.held, spool.unsent) == (7 * size, 7 * size)
    spool.acknowledge(places[1])
    assert (spool.held, spool.unsent) == (7 * size, 5 * size)
    spool.acknowledge(places[4])
    assert (spool.held, spool.unsent) == (4 * size, 2 * size)
    spool.acknowledge(places[6])
    assert (spool.held, spool.unsent) == (size, 0)
    spool.close(empty=False)
    orphan = Directory.orphan(tmp_path)
    assert orphan is not None
    assert (orphan.segments(), orphan.mark) == ([3], Place(3, size))
    orphan.close()


def test_an_old_segment_gives_way_to_a_new_one(tmp_path: Path) -> None:
    now = 0.0
    spool = Spool(tmp_path, 1 << 20, clock=lambda: now)
    spool.open()
    fill(spool, 1)
    now = MAX_SEGMENT_SECONDS + 1
    [place] = fill(spool, 1)
    assert place == Place(2, FRAME.size)
    spool.close(empty=True)


def test_a_full_spool_takes_more_once_there_is_room(tmp_path: Path) -> None:
    spool = opened(tmp_path, most=8 * FRAME.size)
    places = fill(spool, 8)
    assert spool.append(encode(FRAME)) is None
    assert spool.writable
    spool.acknowledge(places[3])
    fill(spool, 4)
    assert spool.append(encode(FRAME)) is None


def test_the_spools_of_other_workers_count_towards_the_limit(tmp_path: Path) -> None:
    one = opened(tmp_path, most=8 * FRAME.size)
    other = opened(tmp_path, most=8 * FRAME.size)
    fill(one, 5)
    other.measure_others()
    fill(other, 3)
    assert other.append(encode(FRAME)) is None


def test_the_spool_of_a_live_worker_is_untouched_and_that_of_a_dead_one_is_seized(
    tmp_path: Path,
) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    fill(one, 2)
    fill(other, 3)
    assert Directory.orphan(tmp_path) is None
    other.close(empty=False)
    orphan = Directory.orphan(tmp_path)
    assert orphan is not None
    assert in_directory(orphan) == [FRAME] * 3
    assert orphan.mark == START
    assert Directory.orphan(tmp_path) is None, "one at a time"
    orphan.mark = Place(1, 7)
    orphan.close()
    again = Directory.orphan(tmp_path)
    assert again is not None
    assert again.mark == Place(1, 7)
    assert again.remove()
    one.close(empty=True)
    assert Directory.orphan(tmp_path) is None
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_an_empty_root_has_no_orphans(tmp_path: Path) -> None:
    assert Directory.orphan(tmp_path / "nothing") is None


def test_a_directory_that_cannot_be_made_is_logged_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "spool"
    root.write_text("in the way")
    spool = Spool(root, 1 << 20)
    with caplog.at_level(logging.WARNING):
        spool.open()
    assert f"the spool {root} can't be written (EEXIST)" in caplog.text
    assert spool.append(encode(FRAME)) is None
    spool.open()
    assert caplog.text.count("can't be written") == 1
    assert spool.held == 0
    root.unlink()
    spool.open()
    fill(spool, 1)
    spool.close(empty=True)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Limits files to `size` bytes, as a full disk does: a write is short, the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_half_a_write_to_a_full_disk_is_undone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = opened(tmp_path)
    with files_of_at_most(2 * FRAME.size + 10):
        fill(spool, 2)
        assert spool.append(encode(FRAME)) is None
        assert not spool.writable
        assert spool.append(encode(FRAME)) is None
    assert errno.errorcode[errno.ENOSPC] in caplog.text
    spool.open()
    [place] = fill(spool, 1)
    assert place == Place(2, FRAME.size)
    data = spool.read(START._replace(segment=1), spool.segment_end(Place(1, 0)))
    assert [frame for frame, _ in decode(data)] == [FRAME] * 2
    assert spool.after(spool.segment_end(Place(1, 0))) == Place(2, 0)
    spool.close(empty=False)
    orphan = Directory.orphan(tmp_path)
    assert orphan is not None
    assert in_directory(orphan) == [FRAME] * 3
    assert len(orphan.read(1)) == 2 * FRAME.size, "nothing of the third is left behind"
    orphan.close()
