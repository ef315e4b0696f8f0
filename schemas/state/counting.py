"""How pairs of actions and popularity are counted: a setting that a release names."""

from __future__ import annotations

from math import inf
from typing import Final

import msgspec

from schemas.state.tables import WINDOWS, Gap, PairCounting

Mix = tuple[float, ...]
"""A weight for each of `WINDOWS`, at least 0; not all 0."""
LAG_POWERS: Final = (0.5, 1.0)
"""Powers of the lag under which the roll-up keeps sums of pairs."""


class Counting(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A pair a, b is directed: the person acted on a, then on b. It counts 1 / lag ^ `lag_power` for b in the
    list of a, and `backward` times as much for a in the list of b."""

    lag_power: float = 1.0
    """One of `LAG_POWERS`."""
    backward: float = 0.5
    """0 to 1; 1: the order of a pair does not count."""
    gap: Gap = "any"
    """"session": pairs within a session; "any": pairs with any of a person's latest actions."""
    fade: float = 0.6
    """Weight of an action in a person's interest over that of the next newer one, in co-visitation."""
    window: Mix = (0.0, 1.0, 1.0, 1.0)
    """The popularity that a recommendation looks at. On the histories of four sets this mix finds as much as
    24 h alone, or up to three times as much."""
    strangers: Mix = (0.0, 1.0, 1.0, 1.0)
    """The same, for people without an interest."""

    @property
    def pairs(self) -> PairCounting:
        """What the lists of neighbours depend on."""
        return PairCounting(lag_power=self.lag_power, backward=self.backward, gap=self.gap)

    @property
    def fault(self) -> str:
        """The first field that is out of its range, "" where none is.

        >>> Counting(fade=1.5).fault
        'fade'
        """
        ranges = {
            "lag_power": self.lag_power in LAG_POWERS,
            "backward": 0 <= self.backward <= 1,
            "fade": 0 <= self.fade <= 1,
            "window": _is_mix(self.window),
            "strangers": _is_mix(self.strangers),
        }
        return next((field for field, holds in ranges.items() if not holds), "")


def _is_mix(mix: Mix) -> bool:
    return len(mix) == len(WINDOWS) and min(mix) >= 0 and 0 < sum(mix) < inf


BUILT_IN: Final = Counting()
"""What counts where no release says otherwise."""
FORMAT_1: Final = Counting(
    lag_power=0.5,
    backward=1.0,
    gap="session",
    fade=0.75,
    window=(0.0, 0.0, 0.0, 1.0),
    strangers=(0.0, 0.0, 0.0, 1.0),
)
"""What releases of format 1, which name no counting, were trained with."""


def only(window: str) -> Mix:
    """The mix of one window.

    >>> only("24h")
    (0.0, 1.0, 0.0, 0.0)
    """
    return tuple(float(name == window) for name in WINDOWS)
