"""Laws run with bounds so small that what hypothesis draws reaches them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from models import seen


@pytest.fixture(scope="module", autouse=True)
def short_strings() -> Iterator[None]:
    """Strings of seen items are compacted from 24 entries on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen, "MIN_LIMIT", 24)
        yield
