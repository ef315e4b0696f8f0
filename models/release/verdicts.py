"""The gate's verdicts, read off the metrics of a manifest, which every version writes a little otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from schemas.releases import RANKER, Manifest

UNKNOWN: Final = "unknown"
OUTCOMES: Final = ("released", "undecided", "refused", UNKNOWN)
COMPONENTS: Final = ("ranker", "coarse")
"""Of a release, as the gate names them; the first that there is decides on the order."""
_LOWER: Final = ("lower", "lo")
_UPPER: Final = ("upper", "hi")


class Range(NamedTuple):
    """A value and its 95 % interval; None: it has none."""

    value: float | None = None
    lower: float | None = None
    upper: float | None = None

    def text(self, digits: int) -> str:
        """
        >>> Range(1.0341, 1.002, 1.07).text(3), Range(1.02).text(3), Range().text(3)
        ('1.034 (1.002 to 1.070)', '1.020', '')
        """
        if self.value is None:
            return ""
        if self.lower is None and self.upper is None:
            return f"{self.value:.{digits}f}"
        lower, upper = (
            "?" if end is None else f"{end:.{digits}f}" for end in (self.lower, self.upper)
        )
        return f"{self.value:.{digits}f} ({lower} to {upper})"


class Judged(NamedTuple):
    """What the gate said of a component, or of a release. `ratio`: NDCG@10 over that of `rival`. `n`: choices
    that it was judged on; `needed`: the choices that would decide."""

    outcome: str
    why: str = ""
    ratio: Range = Range()
    rival: str = ""
    n: int | None = None
    people: int | None = None
    needed: int | None = None

    def text(self) -> str:
        """
        >>> Judged("undecided", ratio=Range(1.02, 0.95, 1.09), needed=34_000).text()
        'undecided 1.020 (0.950 to 1.090), 34,000 choices needed'
        """
        needed = f", {self.needed:,} choices needed" if self.needed else ""
        return f"{self.outcome} {self.ratio.text(3)}".rstrip() + needed


def by_component(manifest: Manifest) -> dict[str, Judged]:
    """The verdict on each component that was judged."""
    return {str(name): _judged(it) for name, it in entries(manifest.metrics.get("gate")).items()}


def overall(manifest: Manifest) -> Judged:
    """The verdict on a release: on its ranker where it has one, else on its coarse score."""
    found = by_component(manifest)
    names = COMPONENTS if RANKER in manifest.files else COMPONENTS[1:]
    verdict = next((found[name] for name in names if name in found), None)
    return verdict or Judged(UNKNOWN, "it was judged by no gate")


def entries(value: object) -> Mapping[str, Any]:
    """`value` where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def number(value: object) -> float | None:
    """`value` where it is a finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def interval(value: object, beside: Mapping[str, Any] | None = None, name: str = "") -> Range:
    """The interval of a metric: a mapping with its ends, or a number whose ends have names in `beside`, such
    as `name`_lo."""
    if isinstance(value, Mapping):
        middle = number(value.get("value", value.get("ratio")))
        return Range(middle, _end(value, _LOWER), _end(value, _UPPER))
    held = beside or {}
    lower, upper = ([f"{name}_{end}" for end in words] for words in (_LOWER, _UPPER))
    return Range(number(value), _end(held, lower), _end(held, upper))


def _end(held: Mapping[str, Any], names: Any) -> float | None:
    return next((found for it in names if (found := number(held.get(it))) is not None), None)


def _judged(held: object) -> Judged:
    given = entries(held)
    outcome, n, people, needed = (given.get(it) for it in ("outcome", "n", "people", "needed"))
    return Judged(
        str(outcome) if outcome in OUTCOMES else UNKNOWN,
        str(given.get("why", "")),
        Range(number(given.get("ratio")), _end(given, _LOWER), _end(given, _UPPER)),
        str(given.get("rival") or ""),
        *(int(number(count) or 0) or None for count in (n, people, needed)),
    )
