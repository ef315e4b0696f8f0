"""ONNX Runtime, imported in one place, at its first use and without telemetry."""

from __future__ import annotations

import functools
import os
from typing import Any


@functools.cache
def runtime() -> Any:
    """The module `onnxruntime`, without its telemetry. Not before it is needed: importing it starts a
    thread, which no process can be forked with (`infra.local.forkserver`)."""
    # the import reads it, and else writes a device id and a database into the home folder and reports the
    # start to its makers: the call below comes too late for that (its Privacy.md)
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
