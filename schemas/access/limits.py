"""How often somebody may do what: the policies, and what a caller has left of them."""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

READS: Final = "reads"
READS_SUBJECT: Final = "reads-subject"
EVENTS: Final = "events"
EVENTS_SUBJECT: Final = "events-subject"
ITEMS: Final = "items"
IMPORTS: Final = "import"
ADMINISTRATION: Final = "administration"
NEW_PEOPLE: Final = "new-people"
NEW_ITEMS: Final = "new-items"
NEW_CATEGORIES: Final = "new-categories"


class Policy(NamedTuple):
    """At most `burst` + `rate` t in t seconds. `lease`: what a process may take ahead of time."""

    name: str
    rate: float
    burst: int
    lease: int

    @property
    def window(self) -> int:
        """Seconds in which the whole burst comes back."""
        return ceil(self.burst / self.rate)


class Budget(NamedTuple):
    """What is left of a policy, and the seconds until all of it is there again."""

    policy: Policy
    remaining: int

    @property
    def reset(self) -> int:
        return ceil(max(0, self.policy.burst - self.remaining) / self.policy.rate)


class Exceeded(Exception):
    """A caller asks more often than `policy` has it. `after`: seconds until it may; None: never, since the
    request alone is more than the burst."""

    def __init__(self, policy: Policy, after: float | None) -> None:
        super().__init__(policy.name)
        self.policy = policy
        self.after = None if after is None else max(1, ceil(after))
