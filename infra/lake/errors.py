"""What can be wrong with a lake: sentences that name the object and the remedy, never its content."""

from __future__ import annotations

from schemas.errors import FreshetError


class LakeError(FreshetError):
    """Something about the lake; the text names the object."""


class LakeFull(LakeError):
    """Nothing more can be written. The log still holds what is not in the lake, for its retention."""


class LakeReadOnly(LakeError):
    """Writing is not allowed."""


class LakeAway(LakeError):
    """It does not answer, or is not there."""


class LakeTorn(LakeError):
    """An object is not what the manifest says of it."""


class LakeHole(LakeError):
    """A manifest lacks an entry between two that it has."""


class LakeVersion(LakeError):
    """An object was written by another version of Freshet than this one can read."""

    remedy = "use the one that wrote it"
