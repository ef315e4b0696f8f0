"""The releases at `Settings.release_url`: uploaded whole, listed. Nothing there is ever changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from infra.releases.errors import ReleaseUnavailable
from infra.releases.files import bytes_of, compare, listed
from schemas.control import RELEASE_ID
from schemas.releases import MANIFEST

if TYPE_CHECKING:
    from infra.objects import ObjectStore
    from infra.settings import Settings

CHUNK_BYTES: Final = 1 << 20


def open_bucket(settings: Settings) -> ObjectStore | None:
    """The store of the releases; None where this machine's folder is all. Errors: `ReleaseUnavailable`."""
    if not settings.release_url:
        return None
    try:
        from infra.objects import Errors, ObjectStore  # imports pyarrow, which only a bucket needs
    except ImportError:
        raise ReleaseUnavailable(
            "FRESHET_RELEASE_URL needs pyarrow, which infra/lock/serve.txt lacks: install"
            " infra/lock/run.txt, or share FRESHET_RELEASE_DIR"
        ) from None

    errors = Errors(
        noun="store of the releases",
        variable="FRESHET_RELEASE_URL",
        away=ReleaseUnavailable,
        full=ReleaseUnavailable,
        read_only=ReleaseUnavailable,
        loss="what serves goes on",
    )
    return ObjectStore(settings.release_url, errors)


def in_bucket(settings: Settings) -> dict[str, dict[str, int]]:
    """Release -> its objects and their bytes, of each release whose upload is complete; {} without a bucket.

    Errors: `ReleaseUnavailable`.
    """
    bucket = open_bucket(settings)
    found: dict[str, dict[str, int]] = {}
    for it in bucket.list("") if bucket else ():
        release, _, name = it.name.partition("/")
        if RELEASE_ID.fullmatch(release):
            found.setdefault(release, {})[name] = it.bytes
    return {release: held for release, held in found.items() if MANIFEST in held}


def upload(settings: Settings, release: str) -> None:
    """Copies a release from this machine's folder to the bucket, the manifest last: no reader sees half of
    it. Does nothing where there is no bucket, or where the bucket has this release.

    Errors: `ReleaseUnavailable`, also for another release of this id, and for files that are not as the
    manifest says.
    """
    bucket, path = open_bucket(settings), settings.releases / release
    if bucket is None:
        return
    data = bytes_of(path, MANIFEST)
    name = f"{release}/{MANIFEST}"
    if bucket.size(name) is not None:
        if bucket.get(name) == data:
            return
        raise ReleaseUnavailable(f"{release}: the bucket has another release of this id", "taken")
    for file, of in listed(release, data).items():
        with bucket.create(f"{release}/{file}") as sink:
            sink.write(bytes_of(path, file))
        compare(release, file, of, sink.bytes, sink.sha256)
    bucket.put(name, data)
