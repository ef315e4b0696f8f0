"""Files of ours that are no modules and lie beside them: a load generator in C, a list of jars."""

from __future__ import annotations

from pathlib import Path

from infra.version import DISTRIBUTION


class Incomplete(RuntimeError):
    """A file of this installation is missing; the text names it, and the remedy."""


def shipped(path: Path) -> Path:
    """`path`, which belongs to the code. Errors: `Incomplete` where it is missing."""
    if not path.is_file():
        raise Incomplete(
            f"{path} is missing from this installation: install it again from a complete wheel"
            f" (pip install --force-reinstall {DISTRIBUTION})"
        )
    return path
