"""The version of this code."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

DISTRIBUTION: Final = "freshet-recommender"
"""The name of the distribution for pip."""


def code_version() -> str:
    """The installed version; "source" where the code runs from its folder."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "source"


RELEASE: Final = code_version()
"""``served_by.release`` of an answer that no trained release took part in: the version of this code."""
