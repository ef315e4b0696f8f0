"""The kernel of this process, or None.

`build` compiles it where a C compiler is; elsewhere numpy runs, and gives the same bits. So it does where the
C files are not those that the kernel was built of: they may have another meaning. FRESHET_KERNEL=off
turns the kernel off; the path of a file there is another build of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from typing import Any, Final, NamedTuple

from models.kernels import build
from schemas.errors import ConfigurationError

MODULE: Final = "models.kernels._kernel"
VARIABLE: Final = "FRESHET_KERNEL"
OFF: Final = "off"


class BadKernel(ConfigurationError, ImportError):
    """The file that `VARIABLE` names is no kernel."""

    remedy = f"{VARIABLE} takes {OFF}, or the path of a build; without it the kernel of the installation runs"


class Kernel(NamedTuple):
    """`lib` has the functions, `ffi` (cffi) makes their arguments."""

    lib: Any
    ffi: Any


def load(asked: str) -> tuple[Kernel | None, str]:
    """The kernel and "", or None and why there is none. `asked`: "" for what was built at the installation,
    `OFF`, or the path of a build. Errors: `BadKernel`."""
    if asked == OFF:
        return None, f"{VARIABLE}={OFF}"
    if asked:
        module = _loaded(asked)
    else:
        try:
            module = importlib.import_module(MODULE)
        except ImportError as error:
            why = "none was built at the installation; `python -m models.kernels.build` says why"
            return None, f"{why} ({error})"
        if not _is_current(module):
            return (
                None,
                "it was built of other sources; `python -m models.kernels.build` builds it anew",
            )
    return Kernel(module.lib, module.ffi), ""


def _loaded(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if spec is None or spec.loader is None:
        raise BadKernel(f"{path} is no extension module")
    try:
        return importlib.util.module_from_spec(spec)
    except ImportError as error:
        raise BadKernel(f"no kernel ({error})") from None


def _is_current(module: Any) -> bool:
    """Whether the kernel was built of the C files that lie here, or none do."""
    try:
        here = build.digest()
    except OSError:
        return True
    return bool(module.ffi.string(module.lib.source_digest()).decode() == here)


kernel, missing = load(os.environ.get(VARIABLE, ""))
if kernel is None:
    logging.getLogger(__name__).warning("no compiled kernel, numpy runs: %s", missing)
