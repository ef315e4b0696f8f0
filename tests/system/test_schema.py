"""`/openapi.json` says what the API does: what it allows is taken, what it forbids is refused, and every
answer has a status, a content type and a shape that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import tokens
from infra.local.system import running
from tests.support.schema_runs import faults

pytestmark = [pytest.mark.check, pytest.mark.timeout(300)]
EXAMPLES = 2


def test_the_api_is_as_its_schema_says(tmp_path: Path) -> None:
    given = {
        "FRESHET_ORIGINS": "https://shop.example",  # that of the example
        # one client sends thousands of them
        **{f"FRESHET_LIMIT_{it}": "off" for it in ("READS", "EVENTS", "ADMIN")},
    }
    with running(tmp_path / "up", environment=given) as up:
        assert "\n".join(faults(up.url, tokens.held(up.settings), EXAMPLES)) == ""
