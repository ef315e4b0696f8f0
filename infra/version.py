"""The version of this code, where it is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

DISTRIBUTION: Final = "freshet-recommender"
"""The name that pip knows."""


def code_version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # run from its folder
        return "source"


RELEASE: Final = code_version()
"""``served_by.release`` where no trained release had a say: the version of this code."""
