"""The version of this code."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "freshet-recommender"
"""The name of the distribution for pip."""


def code_version() -> str:
    """The installed version; that of ``pyproject.toml`` where the code runs from its folder, as in the image;
    "source" where neither is there."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return _of_the_folder(Path(__file__).resolve().parents[1] / "pyproject.toml")


def _of_the_folder(file: Path) -> str:
    try:
        project = tomllib.loads(file.read_text())["project"]
        return str(project["version"]) if project["name"] == DISTRIBUTION else "source"
    except (OSError, KeyError, ValueError):
        return "source"


RELEASE: Final = code_version()
"""``served_by.release`` of an answer that no trained release took part in: the version of this code."""
