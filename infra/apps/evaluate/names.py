"""Data by name: a path, or a set in the folder where the demo finds MovieLens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from infra.apps.evaluate.protocols.plan import CannotEvaluate
from infra.datasets.movielens import SEARCHED_FOLDERS, find

_URL = "://"


class DataName(NamedTuple):
    """`name`: short, for titles and names of files. `path`: a file, a folder, or the URL of a lake."""

    name: str
    path: str


def named(
    text: str, environment: Mapping[str, str] = os.environ, here: Path | None = None
) -> DataName:
    """What `text` means: a URL, a path, or the name of a folder, or of a file in one, beside MovieLens.

    Errors: `CannotEvaluate`, with the name that was probably meant.
    """
    if _URL in text:
        return DataName(text.partition("?")[0].rstrip("/").rpartition("/")[2] or "lake", text)
    path = Path(os.path.expanduser(text))
    if text and os.path.exists(path):
        return DataName(_short(path.resolve()), str(path))
    held = dict(_sets(environment, here or Path.cwd()))
    by_name = {name.lower(): name for name in held}
    if name := by_name.get(text.strip("/").lower()):
        return DataName(_short(held[name]), str(held[name]))
    near = get_close_matches(text.lower(), by_name, 1, 0.5)
    meant = f" (did you mean {by_name[near[0]]}?)" if near else ""
    some = ", ".join(sorted({_short(it) for it in held.values() if it.is_dir()})) or "none"
    raise CannotEvaluate(
        f"there is no data called {text!r} here{meant}",
        remedy=f"give a folder, a file, the URL of a lake, or one of these sets: {some}",
    )


def _short(path: Path) -> str:
    return path.name if path.is_dir() else path.name.partition(".")[0]


def _sets(environment: Mapping[str, str], here: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of the sets in the folders that are searched; a set in an earlier one is preferred."""
    found: dict[str, Path] = {}
    for folder in _folders(environment, here):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_dir() and not path.name.startswith("."):
                found.setdefault(path.name, path)
                files = [it for it in sorted(path.iterdir()) if it.is_file()]
                for file in files:
                    found.setdefault(f"{path.name}/{file.name}", file)
                    found.setdefault(file.name, file)
                    found.setdefault(_short(file), file)
    yield from found.items()


def _folders(environment: Mapping[str, str], here: Path) -> Iterator[Path]:
    if movielens := find(environment, here):
        yield movielens.parent
    if environment.get("DATA"):
        yield Path(environment["DATA"])
    yield from (here / name for name in SEARCHED_FOLDERS)
