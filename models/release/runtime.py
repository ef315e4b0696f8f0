"""ONNX Runtime, in one place: imported at its first use, and it phones nobody."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def runtime() -> Any:
    """The module `onnxruntime`, without its telemetry. Not before it is needed: importing it starts a
    thread, which no process can be forked with (`infra.local.forkserver`)."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
