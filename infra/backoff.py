"""How long to wait before what failed is tried again."""

from __future__ import annotations

from typing import Final

FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 5.0
WORKED_SECONDS: Final = 5.0
"""After so long a run the next failure counts as the first again."""
