"""Actions that wait, in the order of the log. Most are only kept, so they are packed in blocks."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.aggregates.waiting_pairs import Codes
from models.arrays import Mask

COUNTS: Final = 0x80
"""Bit of a kind: the action is a fact of popularity that waits; without it only its pairs do."""
TAKEN_BACK: Final = 0x40
"""Bit of a kind: an earlier fact of the same item, time and action is taken back."""
ACTION: Final = 0x3F
"""The bits of a kind with the code of the action."""
ACTIONS_PER_BLOCK: Final = 4096
"""So many unpacked actions become a block: some 200 KB, packed a seventh of that."""


class Logged(NamedTuple):
    """n actions with their m pairs: `item` (n,) and `partner` (m,) as codes, `time` in s, `kind`: an action
    and the bits above, `pairs`: how many pairs each action has."""

    item: Codes
    time: NDArray[np.uint32]
    kind: NDArray[np.uint8]
    pairs: NDArray[np.uint8]
    partner: Codes
    lag: NDArray[np.uint8]

    @property
    def counts(self) -> Mask:
        """(n,) the facts of popularity."""
        counts: Mask = self.kind & COUNTS != 0
        return counts

    def without(self, facts: Mask, pairs: Mask) -> Logged:
        """Without these facts (n,) and pairs (m,), and the actions that then have neither."""
        owner = np.repeat(np.arange(len(self.item)), self.pairs)
        rest = np.bincount(owner[~pairs], minlength=len(self.item)).astype(np.uint8)
        kind = np.where(facts, self.kind & ~np.uint8(COUNTS), self.kind)
        some = (rest > 0) | (kind & COUNTS != 0)
        return Logged(
            self.item[some],
            self.time[some],
            kind[some],
            rest[some],
            self.partner[~pairs],
            self.lag[~pairs],
        )


_KINDS: Final = ("<u4", "<u4", "u1", "u1", "<u4", "u1")
NOTHING: Final = Logged(*(np.empty(0, kind) for kind in _KINDS))


class Block(NamedTuple):
    """Packed actions, and how many they are, how many of them are facts, and how many pairs they have."""

    actions: int
    facts: int
    pairs: int
    packed: bytes


class WaitingLog:
    """Blocks, and the actions since the last one."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self._blocks, self._last = list(blocks), NOTHING

    def __iter__(self) -> Iterator[Logged]:
        yield from map(_unpacked, self._blocks)
        yield self._last

    @property
    def facts(self) -> int:
        return sum(block.facts for block in self._blocks) + int(self._last.counts.sum())

    @property
    def pairs(self) -> int:
        return sum(block.pairs for block in self._blocks) + len(self._last.partner)

    @property
    def size(self) -> int:
        """Bytes."""
        packed = sum(len(block.packed) for block in self._blocks)
        return packed + sum(column.nbytes for column in self._last)

    def append(self, more: Logged) -> None:
        self._last = _joined((self._last, more))
        if len(self._last.item) >= ACTIONS_PER_BLOCK:
            self.pack()

    def pack(self) -> None:
        """The actions since the last block become one."""
        self._blocks, self._last = self.blocks(), NOTHING

    def blocks(self) -> list[Block]:
        """All of it, as `WaitingLog` takes it."""
        return [*self._blocks, *([_packed(self._last)] if len(self._last.item) else [])]

    def rewrite(self, change: Callable[[Logged], Logged | None]) -> None:
        """Replaces the actions of a block by what `change` gives for them; None: they stay."""
        blocks = []
        for block in self._blocks:
            changed = change(_unpacked(block))
            if changed is None:
                blocks.append(block)
            elif len(changed.item):
                blocks.append(_packed(changed))
        last = change(self._last)
        self._blocks, self._last = blocks, self._last if last is None else last

    def whole(self) -> Logged:
        """All of it, unpacked."""
        return _joined(self)


def _joined(parts: Iterable[Logged]) -> Logged:
    return Logged(*map(np.concatenate, zip(*parts, strict=True)))


def _packed(log: Logged) -> Block:
    # times ascend nearly, and the high bytes of codes repeat themselves
    columns = zip(log._replace(time=_steps(log.time)), _KINDS, strict=True)
    packed = zlib.compress(b"".join([_planes(np.asarray(it), kind) for it, kind in columns]), 1)
    return Block(len(log.item), int(log.counts.sum()), len(log.partner), packed)


def _unpacked(block: Block) -> Logged:
    """Errors: `zlib.error`, ValueError where the block is not of these lengths."""
    data, at = zlib.decompress(block.packed), 0
    columns: list[NDArray[Any]] = []
    for n, kind in enumerate(_KINDS):
        rows, size = block.actions if n < 4 else block.pairs, np.dtype(kind).itemsize
        planes = np.frombuffer(data, np.uint8, rows * size, at).reshape(size, rows)
        columns.append(np.ascontiguousarray(planes.T).view(kind)[:, 0])
        at += planes.nbytes
    log = Logged(*columns)
    return log._replace(time=np.cumsum(log.time, dtype=np.uint32))


def _steps(time: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The first one, and the difference of each other to the one before, modulo 2^32."""
    return np.diff(time, prepend=np.uint32(0))


def _planes(column: NDArray[Any], kind: str) -> bytes:
    """The first byte of each value, then the second, and so on."""
    return column.astype(kind, copy=False)[:, None].view(np.uint8).T.tobytes()
