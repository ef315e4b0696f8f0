"""The one log of the broker's modules."""

from __future__ import annotations

import logging
from typing import Final

LOG: Final = logging.getLogger("infra.broker")
