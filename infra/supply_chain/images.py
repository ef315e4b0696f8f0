"""The images that containers are made of, by digest: ``python -m infra.supply_chain.images [--pin]``.

A tag may be moved to other content, a digest can't. ``--pin`` needs Docker and its registry: it asks `docker
buildx imagetools inspect` for the digest of each tag (that of the index, so for every platform) and writes it
behind the tag, ``redis:7.2-alpine@sha256:…``. To move on to a newer image change the tag, remove the digest,
and pin again.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from infra.supply_chain.locks import ROOT

PLACES: Final = ("infra/deploy/Dockerfile", "docker-compose.yml")
OURS: Final = frozenset({"freshet", "freshet-train"})
"""Built here, not fetched."""
_LINE: Final = re.compile(r"^(?:FROM|\s+image:)\s+(\S+)(?: AS (\S+))?\s*$", re.MULTILINE)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_INSPECT: Final = ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}")


class Image(NamedTuple):
    """`digest` is "" where none is named; `place`: the file that names it."""

    tag: str
    digest: str
    place: str


def images(root: Path = ROOT) -> list[Image]:
    """Every image that is fetched."""
    return [it for place in PLACES for it in _of(place, (root / place).read_text())]


def _of(place: str, text: str) -> Iterator[Image]:
    stages = {stage for _, stage in _LINE.findall(text) if stage}
    for name, _ in _LINE.findall(text):
        tag, _, digest = name.partition("@")
        if tag not in stages | OURS:
            yield Image(tag, digest, place)


def pin(root: Path = ROOT) -> list[Image]:
    """Writes the digests that are missing; answers the images that now have one.

    Errors: OSError without Docker, subprocess.CalledProcessError where it finds no such image, ValueError for
    an answer that is no digest.
    """
    pinned = []
    for it in images(root):
        if it.digest:
            continue
        command = [*_INSPECT, it.tag]
        digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{it.tag}: docker gives no digest")
        path = root / it.place
        named = re.compile(rf"((?:FROM|image:)\s+{re.escape(it.tag)})(?=\s)")
        path.write_text(named.sub(rf"\1@{digest}", path.read_text()))
        pinned.append(it._replace(digest=digest))
    return pinned


def main() -> None:
    """Lists the images; with ``--pin`` pins them first. Exit status 1 while one is not pinned."""
    if "--pin" in sys.argv[1:]:
        pin()
    for it in images():
        print(f"{it.place}: {it.tag} {it.digest or 'is not pinned'}")
    sys.exit(any(not it.digest for it in images()))


if __name__ == "__main__":
    main()
