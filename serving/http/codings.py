"""Content codings of request bodies: gzip (RFC 1952) and zstd (RFC 8878), up to a bound on what they hold."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import zstandard

from serving.http.errors import Problem, malformed, too_large

MAX_WINDOW_BYTES: Final = 8 << 20
"""Of zstd: the memory that a frame may ask for (RFC 9659, 3)."""
MAX_FRAMES: Final = 1000
"""Members of gzip or frames of zstd in one body: each one costs a decoder."""
_CHUNK_BYTES: Final = 1 << 16
_SLICE_BYTES: Final = 1 << 14
"""A decoder is fed slices of this size, since it copies what follows its frame."""
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS


class _Frame(Protocol):
    """A decoder of one frame, with the names of `zlib.decompressobj`."""

    eof: bool
    unused_data: bytes
    unconsumed_tail: bytes

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _ZstdFrame:
    """It has no bound of its own, so `_zstd` counts what the frames hold first."""

    unconsumed_tail = b""

    def __init__(self, decoder: zstandard.ZstdDecompressor) -> None:
        self._frame = decoder.decompressobj()

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._frame.decompress(data)


def _gzip(body: bytes, limit: int) -> bytes:
    return _join(body, lambda: zlib.decompressobj(_GZIP_WBITS), "gzip", limit)


def _zstd(body: bytes, limit: int) -> bytes:
    """Twice through the frames: the reader has a bound, but takes one that is cut short for a whole one."""
    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    reader, size = decoder.stream_reader(body, read_across_frames=True), 0
    while chunk := reader.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
    return _join(body, lambda: _ZstdFrame(decoder), "zstd", limit)


def _join(body: bytes, start: Callable[[], Any], name: str, limit: int) -> bytes:
    """What all frames of the body hold, in their order."""
    found, frames = bytearray(), 0
    frame: _Frame | None = None
    for piece in _slices(body):
        data = piece
        while data:
            if frame is None:
                frames += 1
                frame = start()
            if frames > MAX_FRAMES:
                raise Problem(
                    413,
                    "too_large",
                    f"A body holds at most {MAX_FRAMES} frames of {name}.",
                    [("body", "too_many_frames")],
                )
            # one byte beyond the bound shows that there is more, and is never exceeded
            found += frame.decompress(data, limit + 1 - len(found))
            if len(found) > limit:
                raise too_large(limit)
            data = frame.unused_data if frame.eof else frame.unconsumed_tail
            if frame.eof:
                frame = None
    if frame is not None or not frames:
        raise malformed("cut_short", f"The body is cut short: it has no whole {name}.")
    return bytes(found)


def _slices(body: bytes) -> Iterator[bytes]:
    return (body[at : at + _SLICE_BYTES] for at in range(0, len(body), _SLICE_BYTES))


_DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "zstd": _zstd,
}
CODINGS: Final = "gzip, zstd"
"""The value of Accept-Encoding: what a body may come in, beside as it is."""


def inflate(body: bytes, coding: bytes, limit: int) -> bytes:
    """The body without its coding, of at most `limit` bytes. `coding`: the value of Content-Encoding.

    Errors: `Problem` 413 before more than a chunk beyond `limit` is inflated, or where a frame asks for more
    memory than `MAX_WINDOW_BYTES`; 400 where the body is cut short, followed by other bytes, or malformed.

    >>> inflate(b"{}", b"Identity", 10)
    b'{}'
    """
    name = coding_of(coding)
    if not name:
        return body
    try:
        return _DECODERS[name](body, limit)
    except (zlib.error, zstandard.ZstdError) as error:
        if "too much memory" in str(error):
            detail = f"A frame of zstd may ask for a window of at most {MAX_WINDOW_BYTES} bytes."
            raise Problem(413, "too_large", detail, [("body", "window_too_large")]) from None
        name = name.removeprefix("x-")
        raise malformed(f"malformed_{name}", f"The body is no valid {name}.") from None


def coding_of(value: bytes) -> str:
    """The name of the one coding that `value` names, "" for none. Errors: `Problem` 415, for several too."""
    name = value.decode("latin-1").strip(" \t").lower()
    if name in ("", "identity"):
        return ""
    if name not in _DECODERS:
        raise Problem(
            415,
            "unsupported_media_type",
            f"A body may have one of these as its Content-Encoding: {CODINGS}.",
            [("Content-Encoding", "unsupported")],
            {"Accept-Encoding": CODINGS},
        )
    return name
