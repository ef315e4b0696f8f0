"""What a person was shown lately: the last 64 items, how often each and when last."""

from __future__ import annotations

from typing import Final

import numpy as np

SIZE: Final = 64
IMPRESSION: Final = np.dtype([("item", "<u8"), ("count", "<u4"), ("last", "<u4")])
"""`last` in s. At most `SIZE` rows, by (last, item) ascending."""
