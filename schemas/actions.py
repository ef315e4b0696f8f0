"""Types of actions on items, with their meaning for the features."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray


class ActionType(NamedTuple):
    """`weight`: strength of interest, in units of one view. `recent`: enters the last-50 list and the
    session (an impression or a dwell time does not). `models.seen` says what it tells of seen items."""

    name: str
    weight: float
    recent: bool


# The code of an action is its place here and is stored in rows and facts: append, never reorder.
# `rated_down` and `refund` are codes alone: a client sends `rate` and `purchase`, and the edge marks them.
ACTIONS: Final = (
    ActionType("view", 1, True),
    ActionType("click", 2, True),
    ActionType("purchase", 6, True),
    ActionType("display", 0, False),
    ActionType("dwell", 1, False),
    ActionType("like", 3, True),
    ActionType("dislike", -2, True),
    ActionType("hide", -3, False),
    ActionType("cart", 4, True),
    ActionType("rate", 1, True),
    ActionType("share", 3, True),
    ActionType("unlike", 0, False),
    ActionType("unhide", 0, False),
    ActionType("rated_down", -2, True),
    ActionType("refund", 0, False),
)
CODE: Final = {action.name: code for code, action in enumerate(ACTIONS)}
NEGATIVE: Final = {"rate": CODE["rated_down"], "purchase": CODE["refund"]}
"""Codes of the actions that the edge marked `negative` (`schemas.events.Action`)."""
CLIENT_ACTIONS: Final = tuple(
    action.name for action in ACTIONS if CODE[action.name] not in NEGATIVE.values()
)
"""The names that a client may send."""
TAKES_BACK: Final = {CODE["refund"]: CODE["purchase"], CODE["unlike"]: CODE["like"]}
"""Code of an action -> code of the action that it takes back, out of sums and interest."""
REVERSIBLE: Final = np.isin(np.arange(len(ACTIONS)), list(TAKES_BACK.values()))
"""By code: another action takes it back."""
WEIGHT: Final = np.array([action.weight for action in ACTIONS], "f8")
RECENT: Final = np.array([action.recent for action in ACTIONS], "?")
HIDE: Final = CODE["hide"]


def by_byte(by_code: NDArray[Any]) -> NDArray[Any]:
    """(256,) a table by code as one by any byte, 0 for a code that no action has: stored bytes may be
    damaged."""
    made = np.zeros(256, by_code.dtype)
    made[: len(by_code)] = by_code
    return made


def code_of(action: str, negative: bool) -> int:
    """The code of an action of the log. Errors: KeyError.

    >>> code_of("rate", False), code_of("rate", True)
    (9, 13)
    """
    return NEGATIVE[action] if negative else CODE[action]
