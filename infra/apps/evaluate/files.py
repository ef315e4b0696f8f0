"""The files of an evaluation: the result as JSON, and the report beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final, NamedTuple

from infra.apps.evaluate.figures import Figures
from infra.apps.evaluate.report.page import page

FOLDER: Final = "evaluate"
"""Below the data folder."""
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")


class ResultFiles(NamedTuple):
    result: Path
    report: Path


def write(folder: Path, result: Figures) -> ResultFiles:
    """Replaces both files of this set and protocol. Errors: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    name = _UNFIT.sub("-", f"{result['data']}-{result['protocol']}").lstrip(".-")
    files = ResultFiles(folder / f"{name}.json", folder / f"{name}.html")
    _replace(files.result, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    _replace(files.report, page(result))
    return files


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
