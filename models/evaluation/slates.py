"""Metrics of slates: what was shown, whether or not it was chosen.

A slate is a row of item indices, -1 for an empty place, without repeats: `slates` (S, K), of a catalogue of I
items. Attributes and counts of the catalogue are arrays (I,). Each function gives a value a slate, so that
`intervals` can resample it by person, or one value for all of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from models.arrays import F64, I64, Mask

SMOOTHING: Final = 0.01
"""Of `calibration`, Steck's alpha: what keeps the divergence finite where a slate lacks a category."""


class BySlate(NamedTuple):
    """`values` (S,) and where they mean something, `defined` (S,): elsewhere the value is 0."""

    values: F64
    defined: Mask

    @property
    def mean(self) -> float | None:
        """Over the slates where it is defined; None where it is nowhere."""
        return float(self.values[self.defined].mean()) if self.defined.any() else None


def coverage(slates: I64, items: int) -> float:
    """The share of the catalogue that was shown to anybody, in [0, 1]; aggregate diversity: Adomavicius, Kwon
    2012, "Improving aggregate recommendation diversity using ranking-based techniques".

    >>> coverage(np.array([[0, 1], [1, -1]]), items=8)
    0.25
    """
    return len(np.unique(slates[slates >= 0])) / items if items else 0.0


def distinct(slates: I64, attribute: I64) -> BySlate:
    """(S,) distinct values of `attribute` (I,) over the items of a slate, in (0, 1]. An item without a value,
    -1, is like no other one. Undefined for an empty slate.

    >>> distinct(np.array([[0, 1, 2], [0, 1, -1]]), np.array([7, 7, 8])).values.round(3).tolist()
    [0.667, 0.5]
    """
    shown = slates >= 0
    values = np.sort(_own(slates, attribute), axis=1)
    same = np.diff(values, axis=1) == 0
    size = shown.sum(axis=1)
    empty = slates.shape[1] - size  # each with a value of its own
    number = slates.shape[1] - same.sum(axis=1) - empty
    return BySlate(number / np.maximum(size, 1), size > 0)


def diversity(slates: I64, attribute: I64) -> BySlate:
    """(S,) intra-list diversity: the share of a slate's pairs that differ in `attribute` (I,), in [0, 1].
    An item without a value, -1, differs from all. Undefined below two items. Smyth, McClave 2001,
    "Similarity vs. diversity"; Ziegler et al. 2005, "Improving recommendation lists through topic
    diversification".

    >>> diversity(np.array([[0, 1, 2], [0, 1, -1]]), np.array([7, 7, 8])).values.round(3).tolist()
    [0.667, 0.0]
    """
    size = (slates >= 0).sum(axis=1)
    values = _own(slates, attribute)
    width = slates.shape[1]
    same = sum(
        ((values[:, :-by] == values[:, by:]).sum(axis=1) for by in range(1, width)),
        np.zeros(len(slates)),
    )
    pairs = size * (size - 1) / 2
    return BySlate(np.where(pairs > 0, 1 - same / np.maximum(pairs, 1), 0.0), pairs > 0)


def novelty(slates: I64, count: I64, total: int) -> BySlate:
    """(S,) mean self-information -log2(count / total) of a slate's items, in bits, in [0, log2 total]: with
    `count` (I,) people of each item on history among `total` people. An item that nobody had counts as of
    one person. Vargas, Castells 2011, "Rank and relevance in novelty and diversity metrics", from Zhou et
    al. 2010.

    >>> novelty(np.array([[0, 1]]), np.array([8, 0]), total=16).values.tolist()
    [2.5]
    """
    bits = np.log2(max(total, 1)) - np.log2(np.maximum(count, 1))
    return _mean_of_shown(slates, bits)


def popularity(slates: I64, count: I64) -> BySlate:
    """(S,) average recommendation popularity, ARP: the mean `count` (I,) on history of a slate's items, >= 0.
    Yin et al. 2012, "Challenging the long tail recommendation"."""
    return _mean_of_shown(slates, count.astype(np.float64))


def percentiles(count: I64) -> F64:
    """(I,) the share of the catalogue that is less popular, equals counting half, in (0, 1).

    >>> percentiles(np.array([5, 0, 5, 9])).tolist()
    [0.5, 0.125, 0.5, 0.875]
    """
    _, index, equal = np.unique(count, return_inverse=True, return_counts=True)
    return ((np.cumsum(equal) - equal / 2) / max(len(count), 1))[index]


def popularity_bias(slates: I64, chosen: I64, count: I64) -> float | None:
    """The mean popularity percentile of what was shown over that of what people chose, `chosen` (G,): above 1
    where the slates are more popular than the choices, in (0, 2 I). None where nothing was shown or chosen.
    Popularity lift: Abdollahpouri et al. 2020, "The connection between popularity bias, calibration, and
    fairness in recommendation"."""
    percentile = percentiles(count)
    shown, chosen = slates[slates >= 0], chosen[chosen >= 0]
    if not len(shown) or not len(chosen):
        return None
    return float(percentile[shown].mean() / percentile[chosen].mean())


def calibration(
    slates: I64, attribute: I64, slate: I64, item: I64, smoothing: float = SMOOTHING
) -> BySlate:
    """(S,) how far the attributes shown are from those of the person's history: the divergence KL(p || q~) in
    nats, in [0, -ln smoothing], 0 for the same shares. p: the shares of `attribute` (I,) over the history, q:
    over the slate, q~ = (1 - smoothing) q + smoothing p. Steck 2018, "Calibrated recommendations".

    `slate`, `item` (H,): each act of a history, by the index of the slate that it is before. Items without an
    attribute, -1, are left out; undefined without history or items.

    >>> same, acts = np.array([0, 1]), np.array([0, 1, 0, 1])
    >>> found = calibration(np.array([[0, 1], [0, -1]]), same, np.array([0, 0, 1, 1]), acts)
    >>> found.values.round(3).tolist()  # ln(.5 / .005) / 2 + ln(.5 / .995) / 2
    [0.0, 1.959]
    """
    number = len(slates)
    width = int(attribute.max(initial=-1)) + 1
    if not width:
        return BySlate(np.zeros(number), np.zeros(number, np.bool_))
    rows = np.repeat(np.arange(number), slates.shape[1])
    history, before = _shares(slate, _attribute(item, attribute), number, width)
    shown, after = _shares(rows, _attribute(slates.ravel(), attribute), number, width)
    at = np.minimum(np.searchsorted(shown[0], history[0]), max(len(shown[0]) - 1, 0))
    q = (
        np.where(shown[0][at] == history[0], shown[1][at], 0.0)
        if len(shown[0])
        else 0.0 * history[1]
    )
    p = history[1]
    each = p * np.log(p / ((1 - smoothing) * q + smoothing * p))
    defined = before & after
    sums = np.bincount(history[0] // width, each, number)
    return BySlate(np.where(defined, np.maximum(sums, 0.0), 0.0), defined)


def _shares(slate: I64, value: I64, number: int, width: int) -> tuple[tuple[I64, F64], Mask]:
    """Of acts with a value >= 0: the keys slate * width + value, ascending, with the share of the slate's
    acts each has; and which slates have any (number,)."""
    keep = value >= 0
    keys, count = np.unique(slate[keep] * width + value[keep], return_counts=True)
    total = np.bincount(slate[keep], minlength=number)
    return (keys, count / total[keys // width]), total > 0


def _attribute(items: I64, attribute: I64) -> I64:
    """The attribute of each item, -1 for none and for an empty place."""
    return np.where(items >= 0, attribute[items], -1)


def _own(slates: I64, attribute: I64) -> I64:
    """(S, K) attributes, with negative ones of their own for empty places and items without one."""
    found = _attribute(slates, attribute)
    return np.where(found < 0, -1 - np.arange(slates.shape[1]), found)


def _mean_of_shown(slates: I64, values: F64) -> BySlate:
    shown = slates >= 0
    size = shown.sum(axis=1)
    sums = np.where(shown, values[slates], 0.0).sum(axis=1)
    return BySlate(sums / np.maximum(size, 1), size > 0)
