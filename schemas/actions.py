"""Types of actions on items, with their meaning for the features."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np


class ActionType(NamedTuple):
    """`weight`: strength of interest, in units of one view. `recent`: enters the last-50 list,
    the session and the seen set (an impression or a dwell time does not)."""

    name: str
    weight: float
    recent: bool


# The code of an action is its place here and is stored in rows and facts: append, never reorder.
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
)
CODE: Final = {action.name: code for code, action in enumerate(ACTIONS)}
WEIGHT: Final = np.array([action.weight for action in ACTIONS], "f8")
RECENT: Final = np.array([action.recent for action in ACTIONS], "?")
HIDE: Final = CODE["hide"]
