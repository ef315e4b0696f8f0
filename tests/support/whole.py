"""What `make check ALL=1` runs and `.ci/run` does not: repetitions, and larger sizes of what both run."""

from __future__ import annotations

import os
from typing import Final

import pytest

WHOLE: Final = bool(os.environ.get("ALL"))
whole_only = pytest.mark.skipif(not WHOLE, reason="make check ALL=1 runs it")
