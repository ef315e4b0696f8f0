"""The files of an evaluation: the result as JSON, and the report beside it."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from infra.apps.evaluate.figures import Figures
from infra.apps.evaluate.report.page import page
from schemas.errors import ConfigurationError

FOLDER: Final = "evaluate"
"""Below the data folder."""
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")


class ResultFiles(NamedTuple):
    result: Path
    report: Path


class CannotWrite(ConfigurationError):
    """The folder takes no file."""

    remedy = "name another folder with --out"


def check(folder: Path) -> None:
    """Makes the folder, before any work is done. Errors: `CannotWrite`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _cannot_write(folder, error) from None


def write(folder: Path, result: Figures) -> ResultFiles:
    """Replaces both files of this set and protocol. Errors: `CannotWrite`; the old ones are still there
    then."""
    name = _UNFIT.sub("-", f"{result['data']}-{result['protocol']}").lstrip(".-")
    files = ResultFiles(folder / f"{name}.json", folder / f"{name}.html")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(files.result, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        _replace(files.report, page(result))
    except OSError as error:
        raise _cannot_write(folder, error) from None
    return files


def _replace(path: Path, text: str) -> None:
    # a name of its own: another evaluation may write the same file
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _cannot_write(folder: Path, error: OSError) -> CannotWrite:
    return CannotWrite(f"{folder} takes no file ({error.strerror or type(error).__name__})")
