"""Which release serves: promoted, or returned to. Both check its files first, and fail where another change
came first."""

from __future__ import annotations

from infra.apps.releases.control import ReleaseControl
from infra.apps.releases.find import CheckedRelease, ReleaseRefused, find
from infra.kafka.changes import OtherChange, publish, serve
from infra.releases.bucket import upload
from infra.releases.errors import ReleaseUnavailable
from infra.settings import Settings
from models.release import verdicts
from models.release.artefact import BadRelease, read_manifest
from models.release.verdicts import Judged
from schemas.control import Released, release_order

NO_RELEASE = "built-in"
"""In the place of an id: no release, but the built-in recipes."""


def promote(settings: Settings, control: ReleaseControl, release: str, reason: str = "") -> Judged:
    """Serves a release that is newer than the one that serves, whatever the gate said, which is the answer.

    `control`: as the operator saw it. One that is not registered yet, since it was trained elsewhere, is.
    Errors: `ReleaseRefused`, `ChangeNotApplied`; Kafka's and Redis's.
    """
    found = find(settings, control, release)
    if control.current and release_order(release) < release_order(control.current):
        raise ReleaseRefused(
            f"{release} is older than {control.current}, which serves: `freshet release rollback --to"
            f" {release}` returns to it"
        )
    if release != control.current:
        _serve(settings, control, found, reason, rollback=False)
    return verdicts.overall(found.manifest)


def roll_back(settings: Settings, control: ReleaseControl, to: str = "", reason: str = "") -> str:
    """Returns to an older release, by default to the parent of the one that serves; gives its id, "" where
    `to` is `NO_RELEASE`. Errors: as `promote`."""
    if not control.current:
        raise ReleaseRefused(
            "no release serves, so there is none to roll back: `freshet release promote ID` serves one"
        )
    if to == NO_RELEASE:
        _change(settings, control, "", reason, rollback=True)
        return ""
    target = to or _parent(settings, control)
    found = find(settings, control, target)
    if release_order(target) > release_order(control.current):
        raise ReleaseRefused(
            f"{target} is newer than {control.current}, which serves: `freshet release promote {target}`"
            " serves it"
        )
    _serve(settings, control, found, reason, rollback=True)
    return target


def _parent(settings: Settings, control: ReleaseControl) -> str:
    """The parent of the release that serves, whose own files may be broken. Errors: `ReleaseRefused`."""
    registered = control.registered.get(control.current)
    parent = registered.parent if registered else ""
    if not parent:
        try:
            parent = read_manifest(settings.releases / control.current)[0].parent
        except BadRelease:
            parent = ""
    if not parent:
        raise ReleaseRefused(
            f"{control.current} has no parent: name what to return to with --to (`freshet release list`),"
            f" or --to {NO_RELEASE} for none"
        )
    return parent


def _serve(
    settings: Settings, control: ReleaseControl, found: CheckedRelease, reason: str, rollback: bool
) -> None:
    name = found.manifest.id
    try:
        upload(settings, name)  # other machines fetch it from there
    except ReleaseUnavailable as bad:
        raise ReleaseRefused(str(bad)) from None
    if name not in control.registered:
        manifest = found.manifest
        body = Released(
            manifest_sha256=found.manifest_sha256,
            parent=manifest.parent,
            counting=manifest.counting,
        )
        publish(settings, "release", name, body, reason, expected_version=0)
    _change(settings, control, name, reason, rollback)


def _change(
    settings: Settings, control: ReleaseControl, name: str, reason: str, rollback: bool
) -> None:
    try:
        version = control.version
        serve(settings, name, rollback=rollback, reason=reason, expected_version=version)
    except OtherChange:
        raise ReleaseRefused(
            "another release was promoted or rolled back meanwhile: `freshet release list` says which"
            " serves, then try again"
        ) from None
