"""METRICS of experiments: each a ratio of two counts of a person, summed over people."""

from __future__ import annotations

from typing import Final, NamedTuple

from schemas.state.facts import STATES


class Metric(NamedTuple):
    """`numerator` and `denominator` are of `schemas.state.facts.STATES`."""

    name: str
    numerator: str
    denominator: str

    @property
    def at(self) -> tuple[int, int]:
        """The indices of numerator and denominator in a person's counts.

        >>> METRICS[0].at
        (2, 0)
        """
        return STATES.index(self.numerator), STATES.index(self.denominator)


METRICS: Final = (
    Metric("ctr", "clicked", "served"),
    Metric("conversion", "converted", "clicked"),
)
BY_NAME: Final = {metric.name: metric for metric in METRICS}
