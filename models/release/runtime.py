"""ONNX Runtime, in one place: imported at its first use, and it phones nobody."""

from __future__ import annotations

import functools
import os
from typing import Any


@functools.cache
def runtime() -> Any:
    """The module `onnxruntime`, without its telemetry. Not before it is needed: importing it starts a
    thread, which no process can be forked with (`infra.local.forkserver`)."""
    # read at its import, which else writes a device id and a database into the home folder and tells its
    # makers that it was started: the call below comes too late for that (its Privacy.md)
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
