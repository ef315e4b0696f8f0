"""Files that are shipped beside the modules: a load generator in C, a list of jars."""

from __future__ import annotations

from pathlib import Path

from infra.version import DISTRIBUTION
from schemas.errors import ConfigurationError


class Incomplete(ConfigurationError):
    """A file of this installation is missing; the text names it."""

    remedy = (
        f"install it again from a complete wheel (pip install --force-reinstall {DISTRIBUTION})"
    )


def shipped(path: Path) -> Path:
    """`path`, a file that belongs to the code. Errors: `Incomplete` where it is missing."""
    if not path.is_file():
        raise Incomplete(f"{path} is missing from this installation")
    return path
