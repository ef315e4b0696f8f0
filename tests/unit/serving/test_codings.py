"""Bodies in gzip and zstd: what they hold, a bound on it, and refusals that name the coding."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from serving.http.codings import MAX_FRAMES, MAX_WINDOW_BYTES, inflate
from serving.http.errors import Problem

LIMIT = 1 << 20
ZEROS = bytes(10 * LIMIT)
PACK = {b"gzip": gzip.compress, b"zstd": zstandard.ZstdCompressor().compress}
BOTH = pytest.mark.parametrize("coding", PACK)


def refusal(body: bytes, coding: bytes) -> tuple[int, str, str]:
    """(status, code of the error, detail)."""
    with pytest.raises(Problem) as why:
        inflate(body, coding, LIMIT)
    return why.value.status, why.value.errors[0].code, why.value.detail


@BOTH
@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_frames_hold_what_was_put_in_them(coding: bytes, parts: list[bytes]) -> None:
    assert inflate(b"".join(map(PACK[coding], parts)), coding, LIMIT) == b"".join(parts)


def test_a_coding_has_several_spellings() -> None:
    for coding in (b"x-gzip", b" GZIP", b"X-Gzip"):
        assert inflate(gzip.compress(b"{}"), coding, LIMIT) == b"{}"
    for coding in (b"", b"identity", b"Identity "):
        assert inflate(b"{}", coding, LIMIT) == b"{}"


@pytest.mark.parametrize(
    "coding",
    [b"br", b"deflate", b"gzip, zstd", b"gzip, gzip", b"identity, gzip", b"\xff", b"gzip;q=1"],
)
def test_another_coding_is_refused_with_those_taken(coding: bytes) -> None:
    with pytest.raises(Problem) as why:
        inflate(b"{}", coding, LIMIT)
    assert (why.value.status, why.value.code) == (415, "unsupported_media_type")
    assert why.value.headers == {"Accept-Encoding": "gzip, zstd"}


@BOTH
def test_a_body_holds_as_much_as_one_without_a_coding(coding: bytes) -> None:
    assert len(inflate(PACK[coding](bytes(LIMIT)), coding, LIMIT)) == LIMIT
    whole, more = PACK[coding](bytes(LIMIT)), PACK[coding](b"\0")
    for body in (PACK[coding](bytes(LIMIT + 1)), whole + more, PACK[coding](b"") + whole + more):
        assert refusal(body, coding)[:2] == (413, "too_large")


@BOTH
def test_a_bomb_takes_no_more_memory_than_the_bound(coding: bytes) -> None:
    bomb = PACK[coding](ZEROS)
    tracemalloc.start()
    try:
        assert refusal(bomb, coding)[:2] == (413, "too_large")
        assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
    finally:
        tracemalloc.stop()


@BOTH
@given(cut=st.integers(0, 200))
def test_a_body_that_is_cut_short_is_refused(coding: bytes, cut: int) -> None:
    packed = PACK[coding](bytes(range(256)))
    for before in (b"", PACK[coding](b"{}")):
        body = before + packed[: cut % len(packed)]
        if body != before or not before:
            status, code, detail = refusal(body, coding)
            assert (status, code) == (400, "cut_short")
            assert coding.decode() in detail


@BOTH
@given(junk=st.binary(min_size=1, max_size=40))
def test_bytes_after_the_last_frame_are_an_error(coding: bytes, junk: bytes) -> None:
    status, code, detail = refusal(PACK[coding](b"{}") + b"\x00" + junk, coding)
    assert (status, code) in ((400, f"malformed_{coding.decode()}"), (400, "cut_short"))
    assert coding.decode() in detail


def test_what_is_no_frame_is_refused_by_name() -> None:
    packed = bytearray(gzip.compress(b"x" * 100))
    packed[-5] ^= 1  # of the checksum
    for body in (b"{}", bytes(packed), PACK[b"zstd"](b"{}"), zlib.compress(b"{}")):
        assert refusal(body, b"x-gzip")[:2] == (400, "malformed_gzip")
    for body in (b"{}" * 9, gzip.compress(b"{}")):
        assert refusal(body, b"zstd")[:2] == (400, "malformed_zstd")


@BOTH
def test_frames_are_counted(coding: bytes) -> None:
    one = PACK[coding](b"x")
    assert inflate(one * MAX_FRAMES, coding, LIMIT) == b"x" * MAX_FRAMES
    assert refusal(one * (MAX_FRAMES + 1), coding)[:2] == (413, "too_many_frames")


def test_a_frame_asks_for_a_window_of_bounded_size() -> None:
    def packed(window_log: int) -> bytes:
        asks = zstandard.ZstdCompressionParameters(window_log=window_log)
        frame = zstandard.ZstdCompressor(compression_params=asks).compressobj()
        return frame.compress(b"{}") + frame.flush()

    assert inflate(packed(MAX_WINDOW_BYTES.bit_length() - 1), b"zstd", LIMIT) == b"{}"
    assert refusal(packed(27), b"zstd")[:2] == (413, "window_too_large")
