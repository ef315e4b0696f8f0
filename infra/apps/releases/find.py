"""A release by its id, with all its files checked, or a sentence that says what is wrong."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from infra.apps.releases.control import ReleaseControl
from infra.releases.bucket import in_bucket
from infra.releases.errors import ReleaseUnavailable
from infra.releases.fetch import fetch
from infra.settings import Settings
from models.release.artefact import BadRelease, load, read_manifest
from schemas.control import RELEASE_ID, release_order
from schemas.errors import ConfigurationError
from schemas.releases import Manifest


class ReleaseRefused(ConfigurationError):
    """A release is not there, is broken, or may not serve so; the text says why, and the remedy."""


class CheckedRelease(NamedTuple):
    """A release whose files are all as written, in a folder of this machine."""

    manifest: Manifest
    manifest_sha256: str
    path: Path


def ids(settings: Settings, control: ReleaseControl) -> list[str]:
    """The releases registered, in this machine's folder or in the bucket, the newest first.

    Errors: `ReleaseUnavailable`.
    """
    here = [it.name for it in settings.releases.glob("[0-9]*") if RELEASE_ID.fullmatch(it.name)]
    found = {*control.registered, *here, *in_bucket(settings)}
    return sorted(found, key=release_order, reverse=True)


def find(settings: Settings, control: ReleaseControl, release: str) -> CheckedRelease:
    """The release of this id, fetched where this machine lacks it. Errors: `ReleaseRefused`."""
    try:
        existing = ids(settings, control)
        if release not in existing:
            raise ReleaseRefused(_missing(release, existing))
        registered = control.registered.get(release)
        sha = registered.manifest_sha256 if registered else ""
        path = fetch(settings, release, sha)
        load(path, sha)
        return CheckedRelease(*read_manifest(path), path)
    except (BadRelease, ReleaseUnavailable) as bad:
        raise ReleaseRefused(str(bad)) from None


def _missing(release: str, existing: list[str]) -> str:
    near = get_close_matches(release, existing, n=1)
    if near:
        return (
            f"there is no release {release}, did you mean {near[0]}? `freshet release list` has all"
        )
    newest = ", ".join(existing[:5])
    there = f"the newest are {newest}" if newest else "there is none yet (`freshet train`)"
    return f"there is no release {release}: {there}"
