"""`freshet release`: list, show, activate and roll back releases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.cli.options import json_option, print_json, system_option
from infra.local.find import find
from infra.terminal.text import console, table
from schemas.errors import FreshetError
from schemas.times import iso

if TYPE_CHECKING:
    from infra.settings import Settings


class NoRelease(FreshetError):
    """There is no such release; the text names the remedy."""


@click.group("release")
def release_command() -> None:
    """List, show, activate and roll back releases.

    \b
    freshet release list
    freshet release show 2026-11-24.1
    freshet release activate 2026-11-24.2
    freshet release rollback
    """


@release_command.command("list")
@system_option
@json_option
def list_(data_dir: Path | None, as_json: bool) -> None:
    """List the releases, the newest first."""
    held = releases(find(data_dir).settings)
    if as_json:
        print_json(held)
        return
    rows = [
        ("serves" if it["current"] else "", it["id"], iso(it["created_at"]) if it["created_at"]
         else "", it["parent"], it["ranker"], it["state"])
        for it in held
    ]  # fmt: skip
    console().print(table("", ("", "release", "made", "parent", "ranker", "state"), rows))


@release_command.command("show")
@click.argument("release")
@system_option
@json_option
def show(release: str, data_dir: Path | None, as_json: bool) -> None:
    """Show the manifest of RELEASE, after a check of its files."""
    import msgspec

    from models.release.artefact import load, read_manifest

    settings = find(data_dir).settings
    _check_exists(settings, release)
    manifest, sha = read_manifest(settings.releases / release)
    load(settings.releases / release)
    document = {**msgspec.to_builtins(manifest), "manifest_sha256": sha}
    if as_json:
        print_json(document)
        return
    console().print_json(data=document)


@release_command.command("activate")
@click.argument("release")
@system_option
def activate(release: str, data_dir: Path | None) -> None:
    """Serve RELEASE from now on. To return to an older one, use `rollback`."""
    from infra.kafka.changes import serve
    from models.release.artefact import load

    settings = find(data_dir).settings
    _check_exists(settings, release)
    load(settings.releases / release)  # a broken release fails here, before any worker serves it
    serve(settings, release)
    console().print(f"{release} serves from now on.")


@release_command.command("rollback")
@click.argument("release", required=False)
@system_option
def rollback(release: str | None, data_dir: Path | None) -> None:
    """Return to RELEASE, by default to the parent of the one that serves."""
    from infra.kafka.changes import serve
    from models.release.artefact import load, read_manifest

    settings = find(data_dir).settings
    if release is None:
        current = next((it["id"] for it in releases(settings) if it["current"]), "")
        if not current:
            raise NoRelease(
                "no release serves, so there is none to roll back: `freshet release activate` serves one"
            )
        release = read_manifest(settings.releases / current)[0].parent
        if not release:
            raise NoRelease(
                f"{current} has no parent: name the release to return to (`freshet release list`)"
            )
    _check_exists(settings, release)
    load(settings.releases / release)
    serve(settings, release, rollback=True)
    console().print(f"{release} serves from now on.")


def releases(settings: Settings) -> list[dict[str, Any]]:
    """The releases registered in `control`, the newest first, with what their folders hold."""
    import msgspec

    from infra.store import redis_client
    from models.release.artefact import BadRelease, read_manifest
    from schemas.control import CURRENT, HELD_DECODER, Current, release_order
    from schemas.releases import RANKER

    with redis_client.connect(settings) as client:
        held: Any = client.hgetall(settings.keyspace.control_state())
    bodies = {name.decode(): HELD_DECODER.decode(value).body for name, value in held.items()}
    current = bodies.get(CURRENT)
    serves = msgspec.json.decode(current, type=Current).release if current else ""
    names = [name.partition(":")[2] for name in bodies if name.startswith("release:")]
    rows = []
    for name in sorted(names, key=release_order, reverse=True):
        row = {"id": name, "current": name == serves, "created_at": 0, "parent": "", "ranker": "",
                "state": "ready"}  # fmt: skip
        try:
            manifest, _ = read_manifest(settings.releases / name)
            row |= {"created_at": manifest.created_at, "parent": manifest.parent,
                     "ranker": "yes" if RANKER in manifest.files else "no"}  # fmt: skip
        except BadRelease as bad:
            row["state"] = str(bad)
        rows.append(row)
    return rows


def _check_exists(settings: Settings, release: str) -> None:
    existing = [it["id"] for it in releases(settings)]
    if release not in existing:
        there = ", ".join(existing[:5]) or "none"
        raise NoRelease(f"there is no release of that name; the newest are: {there}")
