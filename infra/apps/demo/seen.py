"""What the demo's simulated people were shown and did, as the clients count it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of one variant, in slots. `expected`: the expected number of clicks by the true tastes."""

    slates: int = 0
    served: int = 0
    displayed: int = 0
    clicked: int = 0
    converted: int = 0
    explored: int = 0
    expected: float = 0.0
    people: set[int] = field(default_factory=set)

    @property
    def true_ctr(self) -> float:
        """Expected clicks for each slot served."""
        return self.expected / self.served if self.served else 0.0

    @property
    def states(self) -> dict[str, int]:
        """As experiments count them (`schemas.state.facts.STATES`)."""
        return {
            "served": self.served,
            "displayed": self.displayed,
            "clicked": self.clicked,
            "converted": self.converted,
        }


@dataclass
class Seen:
    """All counts so far. `freshness_ms`: from a click's first byte to the end of a read that
    includes it."""

    people: int
    seconds: float
    items: int
    """In the catalogue."""
    variants: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    shown: set[str] = field(default_factory=set)
    freshness_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    events: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return min(self.seconds, time.monotonic() - self.began)

    @property
    def slates(self) -> int:
        return sum(it.slates for it in self.variants.values())

    @property
    def explored_share(self) -> float:
        served = sum(it.served for it in self.variants.values())
        return sum(it.explored for it in self.variants.values()) / served if served else 0.0

    @property
    def coverage(self) -> float:
        return len(self.shown) / self.items
