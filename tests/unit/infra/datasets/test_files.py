"""Opening files: compression by content, what is cut, what is none; bounded memory."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from infra.datasets import sources
from infra.datasets.files import BLOCK_BYTES, blocks, peek
from infra.datasets.rows import NotReadable
from tests.unit.infra.datasets.reading import events, items, whole

CUPS = b'{"item_id":"cup"}\n{"item_id":"pan"}\n'


def noise(count: int) -> bytes:
    """Lines that compress badly."""
    some = random.Random(7)
    return b"".join(b'{"item_id":"%d"}\n' % some.getrandbits(63) for _ in range(count))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd])
def test_compression_is_seen_in_the_content(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    found = items(tmp_path, compress(CUPS))
    assert [it["item_id"] for it in found.rows] == ["cup", "pan"]
    assert (found.lines, found.faults, found.error) == ([1, 2], [], "")


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_members_and_frames_follow_each_other(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    found = items(tmp_path, compress(CUPS[:20]) + compress(b"") + compress(CUPS[20:]))
    assert (len(found.rows), found.error) == (2, "")


def test_zeros_may_follow_gzip_and_a_frame_without_data_come_before_zstd(tmp_path: Path) -> None:
    assert items(tmp_path, gzip.compress(CUPS) + bytes(512)).error == ""
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0none"
    assert len(items(tmp_path, skippable + zstd(CUPS)).rows) == 2


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_cut_file_gives_what_comes_before_the_cut(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    data = compress(noise(60_000))
    found = items(tmp_path, data[: len(data) // 2])
    count = len(found.rows)
    assert 10_000 < count < 60_000
    assert found.lines == [*range(1, count + 1)]
    assert found.faults == []
    assert f"is cut off within its {'gzip' if data[0] == 0x1F else 'zstd'} data" in found.error
    assert f"after line {count:,}" in found.error
    assert "fetch" in found.error


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_every_cut_is_told(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    data = compress(CUPS)
    for size in range(1, len(data)):
        found = items(tmp_path, data[:size])
        assert found.error != ""
        assert found.rows == [{"item_id": "cup"}, {"item_id": "pan"}][: len(found.rows)]


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_damaged_file_says_so(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    data = bytearray(compress(noise(1000)))
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    assert "is damaged within its" in items(tmp_path, bytes(data)).error


def test_lines_before_the_damage_of_gzip_are_read(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(noise(1000)))
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    assert 450 < len(items(tmp_path, bytes(data)).rows) < 550
    data = bytearray(gzip.compress(CUPS))
    data[-6] ^= 1  # the checksum
    found = items(tmp_path, bytes(data))
    assert (len(found.rows), "is damaged within its gzip" in found.error) == (2, True)


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_what_is_packed_twice_is_told(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    assert "is compressed twice: unpack" in items(tmp_path, compress(gzip.compress(CUPS))).error
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("items.csv"))
    for content in (archive.getvalue(), compress(archive.getvalue())):
        assert "is a tar archive: unpack it" in items(tmp_path, content).error


def test_zstd_that_needs_much_memory_is_told(tmp_path: Path) -> None:
    settings = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    data = zstandard.ZstdCompressor(compression_params=settings).compressobj().compress(noise(9))
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(28 - 10) << 3]) + b"\x01\0\0" + data
    assert "needs more than 128 MiB" in items(tmp_path, frame).error


def test_what_follows_a_member_and_is_none_is_told(tmp_path: Path) -> None:
    found = items(tmp_path, gzip.compress(CUPS) + b"and more")
    assert len(found.rows) == 2
    assert "damaged" in found.error


@pytest.mark.parametrize(
    "content", [b"", b"\xef\xbb\xbf", b" \r\n\n", gzip.compress(b"", mtime=0), zstd(b"")]
)
def test_an_empty_file_is_told(tmp_path: Path, content: bytes) -> None:
    found = events(tmp_path, content)
    assert found.error == f"{tmp_path / 'file'} is empty: check that it was written"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"PK\x03\x04rest", "is a zip archive"),
        (b"BZh91AY&SY", "is compressed with bzip2"),
        (b"\xfd7zXZ\0\0", "is compressed with xz"),
    ],
)
def test_other_compression_is_named(tmp_path: Path, head: bytes, said: str) -> None:
    assert said in events(tmp_path, head).error


def test_a_directory_and_a_missing_file_are_told(tmp_path: Path) -> None:
    found = whole(sources.events(tmp_path))
    assert found.error == f"{tmp_path} is a directory: name the files in it"
    assert "is not there" in whole(sources.events(tmp_path / "none")).error
    assert "cannot be read" in whole(sources.events(Path("a\0b"))).error


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(mode=0)
    assert "may not be read" in whole(sources.events(path)).error


def test_a_failure_comes_after_what_was_peeked() -> None:
    def failing() -> object:
        yield b"ab"
        yield b"cd"
        raise NotReadable("is cut off")

    head, again = peek(failing(), 3)  # type: ignore[arg-type]
    assert head == b"abc"
    assert [next(again), next(again)] == [b"ab", b"cd"]
    with pytest.raises(NotReadable, match="is cut off"):
        next(again)


def test_no_block_is_large(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for compress in (gzip.compress, zstd):
        path.write_bytes(compress(bytes(100 << 20)))
        sizes = [len(it) for it in blocks(path, lambda count: None)]
        assert (sum(sizes), max(sizes)) == (100 << 20, BLOCK_BYTES)


BOUNDED = """
import resource, sys
from pathlib import Path
import numpy
from infra.datasets import movielens, sources
from infra.datasets.rows import NotReadable
path = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
error = ""
rows, faults = 0, 0
try:
    for chunk in {source}.chunks():
        rows, faults = rows + len(chunk.bodies), faults + len(chunk.faults)
except NotReadable as failure:
    error = str(failure)
print(rows, faults, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
print(error)
"""


def bounded_source(source: str, path: Path) -> tuple[int, int, int, str]:
    """Rows, faults, MiB and the error of reading an expression of `path` in a process of its own."""
    program = BOUNDED.replace("{source}", source)
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    counts, error = done.stdout.split("\n")[:2]
    rows, faults, mib = map(int, counts.split())
    return rows, faults, mib, error


def bounded(path: Path) -> tuple[int, int, int, str]:
    return bounded_source("sources.items(path)", path)


def test_a_long_line_costs_itself_and_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(CUPS)
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + CUPS)
    rows, faults, mib, error = bounded(path)
    assert (rows, faults, error) == (4, 1, "")
    assert mib < 30


@pytest.mark.parametrize(("byte", "size"), [(b"x", 48 << 20), (b"\0", 48 << 20), (b"\n", 12 << 20)])
@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_bomb_costs_little_memory(
    tmp_path: Path, compress: Callable[[bytes], bytes], byte: bytes, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(compress(CUPS) + compress(byte * size))
    rows, _, mib, _ = bounded(path)
    assert rows == 2
    assert mib < 80


@pytest.mark.check
def test_a_line_without_an_end_ends_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(CUPS) + gzip.compress(b"x" * (64 << 20)) * 17)
    rows, faults, mib, error = bounded(path)
    assert (rows, faults) == (2, 0)
    assert "line 3 that goes on for more than 1 GiB" in error
    assert mib < 50
