"""The objects of a lake, in a folder of this machine or in a bucket (`infra.objects`).

No name is written twice with other content, except that of a manifest's entry, whose content then says the
same of the same records.
"""

from __future__ import annotations

from typing import Final

from infra.lake.errors import LakeAway, LakeFull, LakeReadOnly
from infra.objects import Errors, ObjectStore
from infra.settings import Settings

_ERRORS: Final = Errors(
    noun="lake",
    variable="FRESHET_LAKE_URL",
    away=LakeAway,
    full=LakeFull,
    read_only=LakeReadOnly,
    loss="nothing is lost while the log holds it (its retention bounds that)",
)


class Store(ObjectStore):
    """The objects under `url`: what pyarrow's `FileSystem.from_uri` takes, or a path.

    Errors of every method: `LakeError`, and FileNotFoundError for an object that is not there.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, _ERRORS)


def open_store(settings: Settings) -> Store:
    """The store of an installation's lake. Errors: `LakeAway`."""
    return Store(settings.lake_url or str(settings.data_dir / "lake"))
