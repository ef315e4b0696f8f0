"""A ratio of sums over people, and the lift of one over another, by the delta method.

Clicks of one person are correlated, so the unit of the sample is the person: a test over slots has too many
false positives. Deng, Knoblich, Lu: "Applying the Delta Method in Metric Analytics" (KDD 2018):
of n people with y and x, R = sum(y) / sum(x) has

    var(R) = (s_yy - 2 R s_xy + R^2 s_xx) / (n mean(x)^2)     s: sample covariances, divisor n - 1

and since y - R x sums to 0, that is n / (n - 1) * sum((y - R x)^2) / sum(x)^2: three sums of squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, NamedTuple

ALPHA: Final = 0.05
Interval = tuple[float, float]


class Estimate(NamedTuple):
    """`value` None: the denominator is 0. `variance` None: it cannot be estimated, with one person or where
    all people are alike. Never infinite, never NaN."""

    value: float | None
    variance: float | None = None

    def interval(self, alpha: float = ALPHA, least: float = 0.0) -> Interval | None:
        """The interval at level 1 - `alpha`, by the normal law, cut at `least`; None without a variance.

        >>> [round(end, 3) for end in Estimate(0.5, 0.01).interval()]
        [0.304, 0.696]
        """
        if self.value is None or self.variance is None:
            return None
        reach = NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(self.variance)
        return max(least, self.value - reach), self.value + reach


NOTHING: Final = Estimate(None)


def ratio(n: int, y: int, x: int, yy: int, xy: int, xx: int) -> Estimate:
    """sum(y) / sum(x) over `n` people, from the sums of y, x, y^2, x y, x^2: integers, so that no digit is
    lost to cancellation.

    >>> ratio(2, y=1, x=4, yy=1, xy=2, xx=8)  # (y, x) of two people: (1, 2), (0, 2)
    Estimate(value=0.25, variance=0.0625)
    """
    if n < 1 or x <= 0:
        return NOTHING
    value = y / x
    squares = yy * x * x - 2 * y * x * xy + y * y * xx  # sum((y - R x)^2) * sum(x)^2
    if n < 2 or squares <= 0:
        return Estimate(value)
    return Estimate(value, n * squares / ((n - 1) * x**4))


def ratio_of_moments(
    n: int,
    sums: Sequence[int],
    squares: Sequence[Sequence[int]],
    at: tuple[Sequence[int], int],
) -> Estimate:
    """`ratio` from one variant's moments as plain integers; `at`: the indices of the counts that make y, and
    the index of x. The sum of counts c_i has the square sum over i and j of c_i c_j.

    >>> ratio_of_moments(2, [4, 1, 0], [[8, 2, 0], [2, 1, 0], [0, 0, 0]], ([1, 2], 0)).value
    0.25
    """
    ys, x = at
    return ratio(
        n,
        sum(sums[y] for y in ys),
        sums[x],
        sum(squares[y][other] for y in ys for other in ys),
        sum(squares[y][x] for y in ys),
        squares[x][x],
    )


def lift(control: Estimate, treatment: Estimate) -> Estimate:
    """treatment / control - 1 of independent estimates, its variance by the delta method:
    var(t) / c^2 + t^2 var(c) / c^4 (ibid., percent change).

    >>> lift(Estimate(0.1, 0.0001), Estimate(0.2, 0.0004)).value
    1.0
    """
    if not control.value or treatment.value is None:
        return NOTHING
    relative = treatment.value / control.value
    if control.variance is None or treatment.variance is None:
        return Estimate(relative - 1)
    variance = (treatment.variance + relative**2 * control.variance) / control.value**2
    return Estimate(relative - 1, variance)
