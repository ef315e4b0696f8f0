"""The stored form of what waits: columns, and the blocks of its logs as they are."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.aggregates.numbers import DenseNumbers
from models.aggregates.popularity import Popularity
from models.aggregates.waiting import Limits, WaitingFacts
from models.aggregates.waiting_day import WaitingDay
from models.aggregates.waiting_log import Block, WaitingLog
from schemas.state.tables import WINDOWS

_DAY: Final = np.dtype(
    [
        ("partition", "<i4"),
        ("day", "<i4"),
        ("counts", "<i8", (4,)),
        ("ids", "<i8"),
        ("sums", "<i8"),
        ("blocks", "<i8"),
    ]
)
"""A day, and how many rows it has of each."""
_BLOCK: Final = np.dtype([(name, "<i8") for name in ("actions", "facts", "pairs", "bytes")])
Columns = dict[str, NDArray[Any]]


def dump_waiting(waiting: WaitingFacts) -> Columns:
    """As `load_waiting` takes it."""
    days = [(p, n, day) for p, of in enumerate(waiting.days) for n, day in sorted(of.items())]
    blocks = [day.log.blocks() for _, _, day in days]
    heads = [
        (p, n, day.counts, len(day.ids), len(day.sums), len(its))
        for (p, n, day), its in zip(days, blocks, strict=True)
    ]
    every = [block for its in blocks for block in its]
    return {
        "limits": np.array(waiting.limits, np.int64),
        "over_limit": np.array(waiting.over_limit, np.int64),
        "newest": np.array(waiting.newest, np.int64),
        "listed": _packed(np.packbits(waiting.listed.all())),
        "days": np.array(heads, _DAY),
        "ids": np.concatenate([np.empty(0, np.uint64), *(day.ids for *_, day in days)]),
        "counted": _packed(np.concatenate([np.empty(0, "?"), *(it.counted for *_, it in days)])),
        "sums": np.concatenate([np.empty((0, len(WINDOWS))), *(day.sums for *_, day in days)]),
        "blocks": np.array([(*it[:3], len(it.packed)) for it in every], _BLOCK),
        "packed": np.frombuffer(b"".join(block.packed for block in every), np.uint8),
    }


def load_waiting(
    items: DenseNumbers, popularity: Popularity, held: Mapping[str, NDArray[Any]]
) -> WaitingFacts:
    """What was dumped. Errors: ValueError, `zlib.error`."""
    newest = held["newest"].tolist()
    waiting = WaitingFacts(items, popularity, len(newest), Limits(*held["limits"].tolist()))
    waiting.newest, waiting.over_limit = newest, held["over_limit"].tolist()
    bits = np.unpackbits(_unpacked(held["listed"], "u1"), count=len(items) * len(newest))
    waiting.listed.load(bits.reshape(len(items), len(newest)).astype(np.bool_))
    counted, blocks = _unpacked(held["counted"], "?"), _blocks(held)
    id_at = sum_at = 0
    for head in held["days"]:
        ids = slice(id_at, id_at := id_at + int(head["ids"]))
        sums = slice(sum_at, sum_at := sum_at + int(head["sums"]))
        log = WaitingLog(islice(blocks, int(head["blocks"])))
        waiting.days[int(head["partition"])][int(head["day"])] = WaitingDay.of(
            head["counts"].tolist(),
            held["ids"][ids].copy(),
            counted[ids].copy(),
            held["sums"][sums].copy(),
            log,
        )
    return waiting


def _blocks(held: Mapping[str, NDArray[Any]]) -> Iterator[Block]:
    data, at = held["packed"].tobytes(), 0
    for actions, facts, pairs, size in held["blocks"].tolist():
        yield Block(actions, facts, pairs, data[at : at + size])
        at += size


def _packed(column: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.compress(column.tobytes(), 1), np.uint8)


def _unpacked(packed: NDArray[np.uint8], kind: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(packed.tobytes()), kind)
