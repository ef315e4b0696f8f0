"""A write as the commands of its transaction, in the bytes of Redis's protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, TypeVar

from infra.store.pipeline import (
    PIECE_STRINGS,
    head,
    in_pieces,
    joined,
    joined_pairs,
    packed,
    pairs_in_pieces,
)
from schemas.state import fences
from schemas.state.write import MAX_WHOLE_BYTES, StreamEntry, Write

T = TypeVar("T")
KEYS_PER_COMMAND: Final = 100_000
"""Redis takes a million strings a command; a batch may touch more people than that."""

# One command for all appends: 600 APPENDs cost the client twenty times their work in Redis. Short
# strings are set whole: APPEND doubles what it allocates, and most people's sets are short.
APPEND_ALL: Final = """
for i, key in ipairs(KEYS) do
  if redis.call('STRLEN', key) < MAX_WHOLE_BYTES then
    redis.call('SET', key, (redis.call('GET', key) or '') .. ARGV[i])
  else
    redis.call('APPEND', key, ARGV[i])
  end
end
""".replace("MAX_WHOLE_BYTES", str(MAX_WHOLE_BYTES)).encode()
_APPEND_ALL_SHA: Final = hashlib.sha1(APPEND_ALL, usedforsecurity=False).hexdigest().encode()
_SCRIPT_BY_SUM: Final = joined((b"EVALSHA", _APPEND_ALL_SHA))


class PackedWrites:
    """Iterates once over the pieces of the commands of `writes`, which stand between MULTI and EXEC.

    The script of the appends is sent with its first use and named by its sum after that. So a transaction
    needs no script that was loaded before it, which a restart or SCRIPT FLUSH would have dropped by now.
    """

    def __init__(self, writes: Sequence[Write]) -> None:
        self._writes = writes
        self._script = joined((b"EVAL", APPEND_ALL))
        self.counts: list[int] = []
        """How many commands each write has; whole once all pieces were taken."""

    def __iter__(self) -> Iterator[bytes]:
        for write in self._writes:
            self.counts.append(0)
            yield from self._stored(write)
            if write.appends:
                yield from self._appended(write.appends)
            for key, mapping in write.fields.items():
                for some in _split(list(mapping.items())):
                    yield self._head(2 + 2 * len(some)) + joined((b"HSET", key))
                    yield from pairs_in_pieces(some)
            for key, names in write.removed.items():
                for part in _split(names):
                    yield self._head(2 + len(part)) + joined((b"HDEL", key))
                    yield from in_pieces(part)
            for entry in write.entries:
                self.counts[-1] += 1
                yield _added(entry)
            for part in _split(write.deleted):
                yield self._head(1 + len(part)) + joined((b"DEL",))
                yield from in_pieces(part)

    def _stored(self, write: Write) -> Iterator[bytes]:
        """The values, and the fence among them."""
        fence = write.keyspace.fence(write.flow, write.partition), fences.encode(write.fence)
        for some in _split([*write.values.items(), fence]):
            head = self._head(1 + 2 * len(some)) + b"$4\r\nMSET\r\n"
            if len(some) <= PIECE_STRINGS:
                yield head + joined_pairs(some)
            else:
                yield head
                yield from pairs_in_pieces(some)

    def _appended(self, appends: dict[bytes, bytes]) -> Iterator[bytes]:
        for some in _split(list(appends.items())):
            head = self._head(3 + 2 * len(some)) + self._script + joined((b"%d" % len(some),))
            keys, added = [key for key, _ in some], [data for _, data in some]
            if len(some) <= PIECE_STRINGS:
                yield head + joined(keys) + joined(added)
            else:
                yield head
                yield from in_pieces(keys)
                yield from in_pieces(added)
            self._script = _SCRIPT_BY_SUM

    def _head(self, strings: int) -> bytes:
        self.counts[-1] += 1
        return head(strings)


def _split(values: list[T]) -> Iterator[list[T]]:
    """The values of each command; none where there are none."""
    for at in range(0, len(values), KEYS_PER_COMMAND):
        yield values[at : at + KEYS_PER_COMMAND] if len(values) > KEYS_PER_COMMAND else values


def _added(entry: StreamEntry) -> bytes:
    at, fields, key = entry.id, entry.fields, entry.key
    if entry.keep is None and len(fields) == 1:  # every batch has one
        [(name, value)] = fields.items()
        return b"*5\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            *(len(key), key, len(at), at),
            *(len(name), name, len(value), value),
        )
    bound = () if entry.keep is None else (b"MAXLEN", b"~", b"%d" % entry.keep)
    return packed(b"XADD", key, *bound, at, *chain.from_iterable(fields.items()))
