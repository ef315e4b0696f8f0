"""The roll-up's tables in Redis as plain values: the stored base, and the published version."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from flows.verify.report import Findings
from infra.store import redis_client
from infra.store.redis_client import Client
from models.aggregates.covisit import PAIR_HALF_LIFE
from models.aggregates.moments import moments
from models.aggregates.pair_sums import parts
from models.aggregates.popularity import HALF_LIVES
from models.aggregates.tables import Tables
from models.aggregates.waiting import WaitingFacts
from models.reference.sums import PAIR_COLUMNS, WINDOW_COUNT, Landmarks, PairColumns, Sums, grown
from schemas.keys import Keyspace, TablesKeys
from schemas.state import tables
from schemas.state.counting import LAG_POWERS
from schemas.state.facts import currency_code
from schemas.state.tables import ARM, ARM_KEY, MOMENTS_KEY, PairCounting

_BAD: Final = (ValueError, KeyError, IndexError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
WAITING_COUNTS: Final = (
    "waiting_items",
    "waiting_pairs",
    "unknown_over_limit",
    "pairs_over_limit",
)
"""Fields of `schemas.state.tables.Meta`."""
MAX_READ_TRIES: Final = 50
"""A base that is replaced during the read is read again."""

Pairs = dict[int, dict[int, PairColumns]]
"""Item visited first -> the other one -> sums; without pairs whose sums are 0."""
Listed = tuple[int, float, float, float]
"""A row of `schemas.state.tables.NEIGHBOUR`."""
Arm = tuple[int, int, int, int, int, int, int, float, float]
Moments = tuple[int, list[int], list[list[int]]]


class Stored(NamedTuple):
    """One version of the tables. `keys`: by table, its key in Redis. Only the base has `pairs` and
    `waiting`, and only the published version has `neighbours`; the other is None. `counts`: of what waits."""

    keys: Mapping[str, bytes]
    positions: list[int]
    marks: Landmarks
    popularity: dict[int, list[float]]
    pairs: Pairs | None
    neighbours: dict[int, list[Listed]] | None
    arms: dict[tuple[int, int], Arm]
    moments: dict[tuple[int, int, int], Moments]
    money: dict[str, tuple[int, int, int]]
    counts: dict[str, int]
    waiting: WaitingFacts | None = None
    countings: Sequence[PairCounting] = ()
    """Under one of which each of `neighbours` is made."""


def base(client: Client, partitions: int, keyspace: Keyspace, found: Findings) -> Stored | None:
    """The stored base; empty where there is none yet; None, and a mismatch, where it is broken."""
    names = keyspace.tables()
    why = "lacks a chunk"
    for _ in range(MAX_READ_TRIES):
        head = client.get(names.base)
        if head is None:
            return of_tables(Tables(partitions), names)
        try:
            chunks = client.mget(names.base_chunks(head))
            if all(chunks):
                return _checked(of_tables(Tables.load(b"".join(chunks)), names), partitions)
        except _BAD as error:
            why = f"does not decode ({type(error).__name__})"
            break
    found.wrong("tables", "base", why, "tables", names.base)
    return None


def of_tables(held: Tables, names: TablesKeys) -> Stored:
    key = dict.fromkeys(TABLES, names.base)
    marks = Landmarks([mark.at for mark in held.popularity.landmarks], held.pairs.landmark.at)
    items = held.items.hashes
    popularity = held.popularity.sums[: len(items)].tolist()
    return Stored(
        key,
        held.positions,
        marks,
        dict(zip(items.tolist(), popularity, strict=True)),
        _pairs(held, items),
        None,
        _arms(held.arms.publish(whole=True)),
        _moments(held.moments.publish(whole=True)),
        held.money.publish(),
        counts_of(held.meta(0)),
        held.waiting,
    )


def counts_of(meta: tables.Meta) -> dict[str, int]:
    return {name: getattr(meta, name) for name in WAITING_COUNTS}


def published(
    client: Client, partitions: int, keyspace: Keyspace, found: Findings
) -> Stored | None:
    """The published version, read in one transaction; empty or None as in `base`."""
    names = keyspace.tables()
    with client.pipeline(transaction=True) as pipe:
        pipe.get(names.meta)
        for key in names[2:6]:
            pipe.hgetall(key)
        meta, *hashes = pipe.execute(raise_on_error=False)
    for key, reply in zip(names[1:6], (meta, *hashes), strict=True):
        if isinstance(reply, Exception):
            found.wrong("key", "type", "another type", "a string" if reply is meta else "hash", key)
            return None
    try:
        return _checked(
            _published(meta, names, partitions, *map(redis_client.fields, hashes)), partitions
        )
    except (*_BAD, msgspec.MsgspecError) as error:
        why = f"does not decode ({type(error).__name__})"
        found.wrong("tables", "published", why, "tables", names.meta)
        return None


def _published(
    held: bytes | None,
    names: TablesKeys,
    partitions: int,
    neighbours: Mapping[bytes, bytes],
    popularity: Mapping[bytes, bytes],
    arms: Mapping[bytes, bytes],
    experiments: Mapping[bytes, bytes],
) -> Stored:
    nothing = tables.Meta(version=0, positions=[0] * partitions, landmarks=[0.0] * WINDOW_COUNT)
    meta = tables.META_DECODER.decode(held) if held else nothing
    return Stored(
        dict(zip(TABLES, (names.popularity, names.neighbours, *names[4:6], names.meta), strict=True)),
        meta.positions,
        # shares of pairs do not depend on the landmark
        Landmarks(meta.landmarks, 0.0),
        {_number(key): _sums(row) for key, row in popularity.items()},
        None,
        {_number(key): tables.neighbours(row).tolist() for key, row in neighbours.items()},
        _arms(arms),
        _moments(experiments),
        meta.money,
        counts_of(meta),
        None,
        meta.countings,
    )  # fmt: skip


TABLES: Final = ("popularity", "pairs", "arms", "experiments", "money")


def _checked(stored: Stored, partitions: int) -> Stored:
    """`stored` itself. Errors: ValueError where it cannot be compared."""
    marks = stored.marks
    landmarks = [*marks.items, marks.pairs]
    if len(stored.positions) != partitions or min(stored.positions) < 0:
        raise ValueError("positions of other partitions")
    if len(landmarks) != WINDOW_COUNT + 1 or not all(map(math.isfinite, landmarks)):
        raise ValueError("landmarks that are none")
    return stored


def _pairs(held: Tables, items: NDArray[np.uint64]) -> Pairs:
    found: Pairs = {}
    for at, table in ((0, held.pairs.session), (len(LAG_POWERS), held.pairs.beyond)):
        keys, sums = table.settle()
        there = sums.any(axis=0)
        first, second = (items[half].tolist() for half in parts(keys[there]))
        for item, partner, terms in zip(first, second, sums.T[there].tolist(), strict=True):
            columns = found.setdefault(item, {}).setdefault(partner, [0.0] * PAIR_COLUMNS)
            columns[at : at + len(terms)] = terms
    return found


def _number(key: bytes) -> int:
    if len(key) != 8:
        raise ValueError("a field that is no hash")
    return int.from_bytes(key, "little")


def _sums(row: bytes) -> list[float]:
    if len(row) != 8 * WINDOW_COUNT:
        raise ValueError("a row of another size")
    sums: list[float] = tables.popularity(row).tolist()
    return sums


def _arms(held: Mapping[bytes, bytes]) -> dict[tuple[int, int], Arm]:
    return {_single_row(key, ARM_KEY): _single_row(row, ARM) for key, row in held.items()}


def _moments(held: Mapping[bytes, bytes]) -> dict[tuple[int, int, int], Moments]:
    found: dict[tuple[int, int, int], Moments] = {}
    for key, rows in held.items():
        for row in moments(rows):
            of = (*_single_row(key, MOMENTS_KEY), int(row["variant"]))
            found[of] = (int(row["units"]), row["sums"].tolist(), row["squares"].tolist())
    return found


def _single_row(data: bytes, kind: np.dtype[np.void]) -> Any:
    """Decodes exactly one row."""
    (row,) = np.frombuffer(data, kind).tolist()
    return row


def sums_of(stored: Stored, marks: Landmarks) -> Sums:
    """A base as sums of the slow definitions, relative to the landmarks `marks`."""
    made = Sums(marks)
    made.popularity = _rescaled(stored.popularity, stored.marks.items, marks.items)
    factor = grown(stored.marks.pairs - marks.pairs, PAIR_HALF_LIFE)
    made.pairs = rescaled_pairs(stored.pairs or {}, factor)
    made.arms = {name: list(arm[:7]) for name, arm in stored.arms.items()}
    made.money = {currency_code(name): list(sums) for name, sums in stored.money.items()}
    made.before = dict(stored.moments)
    return made


def rescaled_pairs(pairs: Pairs, factor: float) -> Pairs:
    return {
        item: {partner: [sum_ * factor for sum_ in columns] for partner, columns in its.items()}
        for item, its in pairs.items()
    }


def _rescaled(
    held: Mapping[int, list[float]], theirs: Sequence[float], ours: Sequence[float]
) -> dict[int, list[float]]:
    """Rows of sums, converted from the landmarks `theirs` to `ours`."""
    factors = growth(theirs, ours)
    return {
        key: [sum_ * factor for sum_, factor in zip(sums, factors, strict=True)]
        for key, sums in held.items()
    }


def growth(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """The factor of each window, from the landmarks `theirs` to `ours`."""
    return [
        grown(a - b, half_life)
        for a, b, half_life in zip(theirs, ours, HALF_LIVES.values(), strict=True)
    ]


def reference_marks(of: Sequence[Stored]) -> Landmarks:
    """The latest landmarks of these tables, so that none of their sums lies far ahead."""
    return Landmarks(
        [max(them) for them in zip(*(one.marks.items for one in of), strict=True)],
        max(one.marks.pairs for one in of),
    )
