"""Errors of the lake: each text names the object and the remedy, never the content."""

from __future__ import annotations

from schemas.errors import FreshetError


class LakeError(FreshetError):
    """The lake could not be used; the text names the object."""


class LakeFull(LakeError):
    """The lake has no room left. The log still holds what is not in the lake, for its retention."""


class LakeReadOnly(LakeError):
    """The lake does not allow writing."""


class LakeAway(LakeError):
    """The lake does not answer, or is not there."""


class LakeTorn(LakeError):
    """An object is not what the manifest says of it."""


class LakeHole(LakeError):
    """A manifest lacks an entry between two entries that it has."""


class LakeVersion(LakeError):
    """An object has a version that this Freshet does not read."""

    remedy = "use the one that wrote it"
