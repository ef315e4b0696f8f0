"""All releases, with their verdicts, what they do now, and where their files lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from infra.apps.releases.control import ReleaseControl
from infra.apps.releases.find import ids
from infra.releases.bucket import in_bucket, open_bucket
from infra.releases.errors import ReleaseUnavailable
from infra.releases.fetch import manifest as bucket_manifest
from infra.releases.files import check, listed
from infra.settings import Settings
from models.release import verdicts
from models.release.artefact import BadRelease, read_manifest
from schemas import releases
from schemas.control import release_order
from schemas.releases import MANIFEST, RANKER, Manifest

if TYPE_CHECKING:
    from infra.objects import ObjectStore

State = Literal["serves", "experiment", "candidate", "lost", "earlier", "broken"]
HERE, BUCKET = "here", "bucket"


class ReleaseRow(msgspec.Struct, kw_only=True):
    """A release in the list. `state`: it serves; a running experiment uses it; it may be promoted; the gate
    refused it; it is older than the one that serves; its files are not as written, which `fault` names.
    `where`: `HERE`, `BUCKET`. `verdict`: {outcome, ratio, lower, upper, needed, text}."""

    id: str
    state: State
    created_at: int = 0
    parent: str = ""
    verdict: dict[str, Any] = {}
    ranker: bool = False
    where: tuple[str, ...] = ()
    registered: bool = False
    fault: str = ""

    @property
    def judged(self) -> str:
        """The verdict in words."""
        return str(self.verdict.get("text", ""))


def rows(settings: Settings, control: ReleaseControl) -> list[ReleaseRow]:
    """The releases, the newest first. The files in this machine's folder are checked by their SHA-256, those
    in the bucket by their sizes. Errors: `ReleaseUnavailable` where the bucket does not answer."""
    shared = in_bucket(settings)
    return [_row(settings, control, name, shared.get(name)) for name in ids(settings, control)]


def _row(
    settings: Settings, control: ReleaseControl, name: str, shared: dict[str, int] | None
) -> ReleaseRow:
    here = (settings.releases / name).is_dir()
    registered = control.registered.get(name)
    row = ReleaseRow(
        id=name,
        state="broken",
        where=tuple(it for it, there in ((HERE, here), (BUCKET, shared is not None)) if there),
        registered=registered is not None,
    )
    try:
        sha = registered.manifest_sha256 if registered else ""
        manifest = _manifest(settings, name, sha, here, shared)
    except (BadRelease, ReleaseUnavailable) as bad:
        row.fault = str(bad)
        return row
    judged = verdicts.overall(manifest)
    row.state = _state(control, name, judged.outcome)
    row.created_at, row.parent = manifest.created_at, manifest.parent
    row.ranker = RANKER in manifest.files
    ratio = judged.ratio
    row.verdict = {
        "outcome": judged.outcome,
        "ratio": ratio.value,
        "lower": ratio.lower,
        "upper": ratio.upper,
        "needed": judged.needed,
        "text": judged.text(),
    }
    return row


def _manifest(
    settings: Settings, name: str, sha: str, here: bool, shared: dict[str, int] | None
) -> Manifest:
    """The manifest, whose files were checked here, or else in the bucket. Errors: `BadRelease`,
    `ReleaseUnavailable`."""
    bucket = open_bucket(settings)
    try:
        if here or shared is None or bucket is None:
            manifest, _ = read_manifest(settings.releases / name)
            check(settings.releases / name, sha)
            return manifest
    except (BadRelease, ReleaseUnavailable):
        if shared is None or bucket is None:
            raise
    return _shared_manifest(bucket, name, sha, shared)


def _shared_manifest(bucket: ObjectStore, name: str, sha: str, shared: dict[str, int]) -> Manifest:
    data = bucket_manifest(bucket, name, sha)
    for file, of in listed(name, data).items():
        if shared.get(file) != of.bytes:
            size = shared.get(file, 0)
            raise ReleaseUnavailable(
                f"{name}: {file} is cut short in the bucket: {size} of {of.bytes} bytes",
                "cut_short",
            )
    try:
        return releases.DECODER.decode(data)
    except msgspec.MsgspecError:
        raise BadRelease(f"{name}: its {MANIFEST} in the bucket cannot be read") from None


def _state(control: ReleaseControl, name: str, outcome: str) -> State:
    if name == control.current:
        return "serves"
    if name in control.experiments:
        return "experiment"
    if outcome == "refused":
        return "lost"
    current = control.current
    return "earlier" if current and release_order(name) < release_order(current) else "candidate"
