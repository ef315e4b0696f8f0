"""The error of a release that cannot be fetched or uploaded."""

from __future__ import annotations

from schemas.errors import FreshetError


class ReleaseUnavailable(FreshetError):
    """A release cannot be fetched from `release_url`, or not be uploaded; the text names the object.

    `code` says why in one word, as `models.release.artefact.BadRelease` does.
    """

    def __init__(self, text: str, code: str = "away") -> None:
        super().__init__(text)
        self.code = code
