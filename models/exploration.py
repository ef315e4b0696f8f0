"""An epsilon slot: mostly the greedy choice, sometimes one of the least served items.

With probability `epsilon` one of `uncovered` uniformly, else `greedy`, so
P(i) = epsilon / |U| [i in U] + (1 - epsilon) [i = greedy]: `draw` samples it, `propensity` gives it.
"Uncovered first" is the cheapest way to show every item once: sN/W of W impressions cover a share s of N.

Draws are a hash of a seed and a counter (splitmix64: Steele, Lea, Flood, "Fast Splittable
Pseudorandom Number Generators", OOPSLA 2014), so no two draws share a generator's state.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_WORD: Final = 2**64 - 1
_GAMMA: Final = 0x9E3779B97F4A7C15
COIN, PICK = 0, 1
"""The draws of one slate, by number."""


class Draw(NamedTuple):
    """`explored`: the coin chose exploration, even if the pick was `greedy`. `probability` of `choice`."""

    choice: int
    explored: bool
    probability: float


def random_word(seed: int, n: int) -> int:
    """The n-th (0, 1, ...) 64-bit word of a seed (u64).

    >>> hex(random_word(0, 0)), hex(random_word(0, 1))
    ('0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4')
    """
    z = seed + (n + 1) * _GAMMA & _WORD
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _WORD
    return z ^ z >> 31


def draw(seed: int, epsilon: float, greedy: int, uncovered: NDArray[np.intp]) -> Draw:
    """One of `uncovered` (distinct, at least one) or `greedy`, which may be among them.

    The coin is fair to 2^-53, the pick to |U| / 2^64.
    """
    explored = (random_word(seed, COIN) >> 11) / 2**53 < epsilon
    choice = int(uncovered[random_word(seed, PICK) * len(uncovered) >> 64]) if explored else greedy
    return Draw(choice, explored, propensity(epsilon, greedy, uncovered, choice))


def propensity(epsilon: float, greedy: int, uncovered: NDArray[np.intp], choice: int) -> float:
    """The probability that `draw` over all seeds gives `choice`."""
    explored = epsilon / len(uncovered) if (uncovered == choice).any() else 0.0
    return explored + (1 - epsilon if choice == greedy else 0.0)
