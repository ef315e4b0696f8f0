"""The table in README.md and the tests agree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_row_of_the_table_names_tests_that_exist() -> None:
    defined = {
        node.name
        for path in HERE.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    text = (HERE / "README.md").read_text()
    rows = [row for row in text.splitlines() if row.startswith("| ") and "| test |" not in row]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(rows) > 60
    assert all(named)
    assert {name for names in named for name in names} <= defined
