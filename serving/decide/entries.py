"""Which sources, rules and columns the compiled decision knows: the tables of sources.c, rules.c and columns.c.

What has no entry there is computed by Python for the candidates of a request, and handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from models.kernels.loading import kernel
from serving.decide.columns import ALL_COLUMNS
from serving.decide.rules import RULES
from serving.decide.sources import SOURCES

IN_PYTHON: Final = -1
"""The code of what has no entry."""


def _codes(names: Iterable[str], function: str) -> dict[str, int]:
    if kernel is None:
        return dict.fromkeys(names, IN_PYTHON)
    code_of: Callable[[bytes], int] = getattr(kernel.lib, function)
    return {name: code_of(name.encode()) for name in names}


SOURCE_CODES: Final = _codes([source.name for source in SOURCES], "decision_source")
RULE_CODES: Final = _codes([rule.name for rule in RULES], "decision_rule")
COLUMN_CODES: Final = _codes([column.name for column in ALL_COLUMNS], "decision_column")


def in_python() -> Mapping[str, tuple[str, ...]]:
    """Kind ("source", "rule", "column") -> the names of those that Python computes: all, where there is no
    kernel."""
    kinds = {"source": SOURCE_CODES, "rule": RULE_CODES, "column": COLUMN_CODES}
    return {
        kind: tuple([name for name, code in codes.items() if code == IN_PYTHON])
        for kind, codes in kinds.items()
    }
