"""METRICS of experiments: each a ratio of counts of a person, summed over people."""

from __future__ import annotations

from typing import Final, NamedTuple

from schemas.state.facts import ATTRIBUTION, STATES


class Metric(NamedTuple):
    """`numerator` (the sum of these) and `denominator` are of `schemas.state.facts.STATES`."""

    name: str
    numerator: tuple[str, ...]
    denominator: str

    @property
    def at(self) -> tuple[tuple[int, ...], int]:
        """The indices of numerator and denominator in a person's counts.

        >>> METRICS[0].at
        ((2,), 0)
        """
        return tuple(map(STATES.index, self.numerator)), STATES.index(self.denominator)


CONVERSIONS: Final = tuple(ATTRIBUTION.values())
"""The states of a converted slot, of which it has one."""
METRICS: Final = (
    Metric("ctr", ("clicked",), "served"),
    Metric("conversion", CONVERSIONS, "clicked"),
)
BY_NAME: Final = {metric.name: metric for metric in METRICS}
