"""The content vector of an item: hashed title words, categories, tags and decade.

Signed feature hashing (Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask
Learning"), each word at `COORDINATES_PER_WORD` of the `DIM` coordinates, so that two words which share one
still differ. Coordinates lie on a grid of 1/`GRID`: a product of two is a multiple of 1/GRID^2 and a sum of
DIM products stays below 4, so every inner product is *exact* in float32, whatever the order of the sum, the
machine or the library. So no ranking by them depends on any of these.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.items import MAX_TITLE_BYTES, Item

DIM: Final = 64
COORDINATES_PER_WORD: Final = 4
GRID: Final = 2048
MAX_NORM: Final = GRID + 4
"""Of a vector times `GRID`: of norm 1 before each of `DIM` coordinates was rounded."""
VERSION: Final = "content1"

Vector = NDArray[np.float32]

# weight of a word of each kind
_WEIGHTS: Final = (("category", 1.0), ("tag", 0.7), ("word", 0.5), ("decade", 1.0))
_WORD: Final = re.compile(r"\w+")
_STOP: Final = frozenset(
    "a an and at by de der die for from in la le les of on or the to with".split()  # noqa: SIM905
)
_YEAR: Final = re.compile(r"\(?\b((?:19|20)\d)\d\)?\s*$")


def vector(item: Item) -> Vector:
    """(DIM,) float32 of norm 1 (to 1/GRID); zeros for an item without title, category and tag.

    >>> vector(Item(item_id="i")).any(), vector(Item(item_id="i", title="Alien")).any()
    (np.False_, np.True_)
    """
    title = head(item.title)
    words = {
        "category": categories(item),
        "tag": item.tags,
        "word": title_words(title),
        "decade": _YEAR.findall(title),
    }
    total = np.zeros(DIM)
    for kind, weight in _WEIGHTS:
        total += weight * _sum(kind, words[kind])
    return on_grid(total)


def person_vector(vectors: Vector, weights: NDArray[np.float64]) -> Vector:
    """(DIM,) the weighted mean of `vectors` (k, DIM), as `on_grid`: a function of the last k actions."""
    return on_grid(weights @ vectors.astype(np.float64))


def on_grid(values: NDArray[np.float64]) -> Vector:
    """`values` scaled to norm 1, each coordinate the nearest multiple of 1/GRID."""
    return (np.rint(_unit(values) * GRID) / GRID).astype(np.float32)


def rows_on_grid(values: NDArray[np.float64]) -> Vector:
    """(n, DIM) `on_grid` of each row."""
    norms = np.sqrt((values * values).sum(axis=1, keepdims=True))
    unit = np.divide(values, norms, out=np.zeros_like(values), where=norms > 0)
    rounded: Vector = (np.rint(unit * GRID) / GRID).astype(np.float32)
    return rounded


def within_grid(values: NDArray[np.float64]) -> Vector:
    """(n, DIM) each row rounded to the grid; a row of norm above 1 is scaled to norm 1 first."""
    norms = np.maximum(np.sqrt((values * values).sum(axis=1, keepdims=True)), 1.0)
    rounded: Vector = (np.rint(values / norms * GRID) / GRID).astype(np.float32)
    return rounded


def categories(item: Item) -> tuple[str, ...]:
    """Every category of an item, once, the primary one first."""
    return tuple(dict.fromkeys(c for c in (item.category, *item.categories) if c))


def head(title: str) -> str:
    """The first `MAX_TITLE_BYTES` of a title, cut between letters."""
    if len(title) * 4 <= MAX_TITLE_BYTES:
        return title
    return title[:MAX_TITLE_BYTES].encode()[:MAX_TITLE_BYTES].decode(errors="ignore")


def title_words(title: str) -> list[str]:
    """The words of a title, once each, without a year at its end: that gives the decade."""
    words = dict.fromkeys(_WORD.findall(_YEAR.sub("", title).casefold()))
    return [word for word in words if word not in _STOP]


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = float(np.sqrt(values @ values))
    return values / norm if norm else values


def _sum(kind: str, words: Iterable[str]) -> NDArray[np.float64]:
    total = np.zeros(DIM)
    for word in words:
        places, signs = _hashed(f"{kind}:{word}")
        np.add.at(total, places, signs)
    return total


@lru_cache(maxsize=65536)
def _hashed(word: str) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """(`COORDINATES_PER_WORD`,) the coordinates of a word, and their signs."""
    size = COORDINATES_PER_WORD
    digest = np.frombuffer(hashlib.blake2b(word.encode(), digest_size=size).digest(), np.uint8)
    return digest % DIM, np.where(digest & 0x80, 1.0, -1.0)
