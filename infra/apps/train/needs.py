"""Packages that only training imports: the extra `train` installs them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from infra.version import DISTRIBUTION
from schemas.errors import ConfigurationError

MODULES: Final = ("lightgbm", "onnxmltools", "scipy", "skl2onnx", "sklearn")


class NotInstalled(ConfigurationError):
    """Modules that training needs are not installed; the text names them."""

    remedy = f"pip install '{DISTRIBUTION}[train]'"


def check_installed() -> None:
    """Checks that all modules are installed; importing them would take seconds. Errors: `NotInstalled`."""
    if missing := [name for name in MODULES if find_spec(name) is None]:
        raise NotInstalled(f"training needs {', '.join(missing)}, which this installation lacks")
