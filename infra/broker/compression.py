"""The four codecs of a record batch, decompressed with a bound on the size of the output."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Final

from infra.broker.codes import Code, Refused

MAX_UNCOMPRESSED_BYTES: Final = 100 << 20  # as large as a request may be
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
XERIAL: Final = b"\x82SNAPPY\x00"  # Java's block framing around raw snappy


def decompress(kind: int, data: memoryview) -> bytes:
    """The records of a batch whose attributes name codec `kind`.

    Errors: `Refused` with CORRUPT_MESSAGE, MESSAGE_TOO_LARGE beyond `MAX_UNCOMPRESSED_BYTES`, or
    UNSUPPORTED_COMPRESSION_TYPE.
    """
    codec = {GZIP: _gzip, SNAPPY: _snappy, LZ4: _lz4, ZSTD: _zstd}.get(kind)
    if codec is None:
        raise Refused(Code.UNSUPPORTED_COMPRESSION_TYPE, "unknown compression codec")
    try:
        out = codec(data)
    except ImportError:
        raise Refused(
            Code.UNSUPPORTED_COMPRESSION_TYPE, "no library for this compression codec"
        ) from None
    except (OSError, ValueError, RuntimeError, EOFError, zlib.error, struct.error):
        raise Refused(Code.CORRUPT_MESSAGE, "records do not decompress") from None
    if len(out) > MAX_UNCOMPRESSED_BYTES:
        raise Refused(Code.MESSAGE_TOO_LARGE, "records too large when decompressed")
    return out


def _gzip(data: memoryview) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    out = stream.decompress(data, MAX_UNCOMPRESSED_BYTES + 1)
    if not stream.eof and len(out) <= MAX_UNCOMPRESSED_BYTES:
        raise EOFError
    return out


def _lz4(data: memoryview) -> bytes:
    import lz4.frame

    stream = lz4.frame.LZ4FrameDecompressor()
    out: bytes = stream.decompress(data, MAX_UNCOMPRESSED_BYTES + 1)
    if not stream.eof and len(out) <= MAX_UNCOMPRESSED_BYTES:
        raise EOFError
    return out


def _zstd(data: memoryview) -> bytes:
    import pyarrow

    with pyarrow.CompressedInputStream(io.BytesIO(data), "zstd") as stream:
        out: bytes = stream.read(MAX_UNCOMPRESSED_BYTES + 1)
    return out


def _snappy(data: memoryview) -> bytes:
    if bytes(data[:8]) != XERIAL:
        return _raw_snappy(data)
    at, out = 16, bytearray()
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        if size <= 0 or at + 4 + size > len(data):
            raise EOFError
        out += _raw_snappy(data[at + 4 : at + 4 + size])
        if len(out) > MAX_UNCOMPRESSED_BYTES:
            break
        at += 4 + size
    return bytes(out)


def _raw_snappy(data: memoryview) -> bytes:
    import pyarrow

    size = shift = 0
    for byte in data[:5]:  # snappy begins with the uncompressed length
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > MAX_UNCOMPRESSED_BYTES:
        raise Refused(Code.MESSAGE_TOO_LARGE, "records too large when decompressed")
    out: bytes = pyarrow.decompress(data, size, codec="snappy", asbytes=True)
    return out
