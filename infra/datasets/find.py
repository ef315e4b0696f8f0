"""The demo's data: MovieLens from a folder, else from its home on the network, else generated."""

from __future__ import annotations

import io
import os
import time
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.datasets import generated, movielens
from infra.datasets.movielens import FILES, Dataset
from infra.datasets.rows import NotReadable

DOWNLOAD_URL: Final = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"
FOLDER_NAME: Final = "ml-latest-small"
CONNECT_SECONDS: Final = 5.0
FETCH_SECONDS: Final = 60.0
MAX_BYTES: Final = 32 << 20
"""Bytes, compressed or not, beyond which a download is not MovieLens."""


class NotFetched(RuntimeError):
    """MovieLens could not be fetched; the text says why, in a few words."""


def catalogue(
    given: Path | None,
    keep: Path,
    environment: Mapping[str, str] = os.environ,
    here: Path | None = None,
    home: str = DOWNLOAD_URL,
) -> Dataset:
    """The first of these: the folder `given`, the folder that `movielens.find` finds, an earlier download in
    `keep`, a download from `home` into `keep`, a generated catalogue. `source` in the answer says which.

    Errors: `movielens.NotMovieLens` where the folder is not.
    """
    folder = given or movielens.find(environment, here)
    if folder is None and all((keep / FOLDER_NAME / file).is_file() for file in FILES):
        folder = keep / FOLDER_NAME
    if folder is not None:
        return movielens.load(folder)
    try:
        fetched = movielens.load(fetch(home, keep / FOLDER_NAME))
        return fetched._replace(source=f"MovieLens, fetched from {home}")
    except NotFetched as error:
        dataset = generated.generated()
        return dataset._replace(source=f"{dataset.source} (MovieLens is not here, and {error})")


def located(
    given: str, environment: Mapping[str, str] = os.environ, here: Path | None = None
) -> Path:
    """A file or a folder: as it is called; else the folder of that name, or a file in it as ``NAME/FILE``,
    beside the one where `movielens.find` finds MovieLens, or in one where it looks.

    Errors: `NotReadable`, with the names that there are.
    """
    here = here or Path.cwd()
    if (path := here / given).exists():
        return path
    places = _beside(environment, here)
    if given and ".." not in Path(given).parts:
        for place in places:
            if (place / given).exists():
                return (place / given).resolve()
    names = [it.name for place in places for it in sorted(place.iterdir()) if it.is_dir()]
    there = ", ".join(dict.fromkeys(names)) or "none"
    raise NotReadable(
        f"{given or 'the data'} is not there", remedy=f"name a file, a folder, or one of {there}"
    )


def _beside(environment: Mapping[str, str], here: Path) -> list[Path]:
    """The folders that hold data sets, in the order in which they are searched."""
    films = movielens.find(environment, here)
    given = [Path(environment["DATA"])] if environment.get("DATA") else []
    places = [*([films.parent] if films else []), *given]
    places += [here / name for name in movielens.SEARCHED_FOLDERS]
    return [it for it in dict.fromkeys(place.resolve() for place in places) if it.is_dir()]


def fetch(url: str, folder: Path) -> Path:
    """Extracts the two files that we read from the archive at `url` into `folder`. Errors: `NotFetched`."""
    try:
        with zipfile.ZipFile(io.BytesIO(_download(url))) as archive:
            texts = {name: _member(archive, name) for name in FILES}
    except zipfile.BadZipFile:
        raise NotFetched("what its home sent is no archive") from None
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        fresh = folder / f"{name}.new"
        fresh.write_bytes(text)
        fresh.replace(folder / name)
    return folder


def _download(url: str) -> bytes:
    until, data = time.monotonic() + FETCH_SECONDS, bytearray()
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as answer:
            while chunk := answer.read(1 << 16):
                data += chunk
                if time.monotonic() > until:
                    raise NotFetched(f"its home sent it too slowly ({FETCH_SECONDS:g} s)")
                if len(data) > MAX_BYTES:
                    raise NotFetched("what its home sent is too large")
    except OSError:  # so are URLError and TimeoutError
        raise NotFetched("its home can't be reached") from None
    return bytes(data)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of the member called `name`, in any folder of the archive. Errors: `NotFetched`."""
    for info in archive.infolist():
        if info.filename.rpartition("/")[2] == name and info.file_size <= MAX_BYTES:
            return archive.read(info)
    raise NotFetched(f"what its home sent holds no {name}")
