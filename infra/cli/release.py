"""`freshet release`: list, show, compare, promote and roll back releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from infra.cli.options import json_option, print_json, system_option
from infra.local import find
from infra.terminal.text import console, printable, table
from schemas.times import iso

_REASON = click.option(
    "--reason", default="", metavar="TEXT", help="Why; recorded in control with the change."
)


@click.group("release")
def release_command() -> None:
    """List, show, compare, promote and roll back releases.

    A release that the gate refused or left undecided is kept, and may be promoted by hand. Releases lie in
    FRESHET_RELEASE_DIR, and at FRESHET_RELEASE_URL (a bucket) where several machines share them.

    \b
    freshet release list
    freshet release show 2026-11-24.1
    freshet release diff 2026-11-24.1 2026-11-24.2
    freshet release promote 2026-11-24.2 --reason "the experiment won"
    freshet release rollback
    """


@release_command.command("list")
@system_option
@json_option
def list_(data_dir: Path | None, as_json: bool) -> None:
    """List the releases, the newest first: their verdicts, which serves, where the files are."""
    import msgspec

    from infra.apps.releases import control, listing

    settings = find.find(data_dir).settings
    in_force = control.read(settings)
    found = listing.rows(settings, in_force)
    if as_json:
        print_json(
            [{**msgspec.to_builtins(it), "current": it.id == in_force.current} for it in found]
        )
        return
    rows = [
        (it.state, it.id, iso(it.created_at) if it.created_at else "", it.parent,
         it.judged or it.fault, "yes" if it.ranker else "no", ", ".join(it.where) or "nowhere")
        for it in found
    ]  # fmt: skip
    columns = (
        "state",
        "release",
        "made",
        "parent",
        "verdict: NDCG@10 to the best rival",
        "ranker",
        "where",
    )
    console().print(table("", columns, rows))
    if (changed := in_force.changed) and in_force.current:
        why = f": {printable(changed.reason)}" if changed.reason else ""
        at = iso(changed.received_at) if changed.received_at else "the beginning"
        console().print(
            f"{in_force.current} serves since {at} (by {printable(changed.actor) or 'nobody named'}{why})",
            markup=False,
        )


@release_command.command("show")
@click.argument("release")
@system_option
@json_option
def show(release: str, data_dir: Path | None, as_json: bool) -> None:
    """Show the model card of RELEASE, after a check of its files; with --json its manifest."""
    import msgspec

    from models.release import card_formats
    from schemas.releases import CARD, CARD_PAGE

    found = _found(data_dir, release)[0]
    if as_json:
        print_json(
            {**msgspec.to_builtins(found.manifest), "manifest_sha256": found.manifest_sha256}
        )
        return
    written = CARD in found.manifest.files
    text = (found.path / CARD).read_text() if written else card_formats.markdown(found.manifest)
    for line in text.splitlines():
        click.echo(printable(line))
    if written:
        click.echo(f"\nThe same for a browser: {found.path / CARD_PAGE}")


@release_command.command("diff")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@system_option
@json_option
def diff(one: str, other: str, data_dir: Path | None, as_json: bool) -> None:
    """Compare A and B: counting, weights, features, data, metrics."""
    from infra.apps.releases.diff import difference

    found = [it.manifest for it in _found(data_dir, one, other)]
    sections = difference(*found)
    if as_json:
        print_json({"a": one, "b": other, **sections})
        return
    rows = [
        (section, name, *map(_cell, sides))
        for section, names in sections.items()
        for name, sides in names.items()
        if sides[0] != sides[1]
    ]
    console().print(table("", ("", "", one, other), rows))
    same = sum(len(names) for names in sections.values()) - len(rows)
    console().print(f"{same} other values are the same.")


@release_command.command("promote")
@click.argument("release")
@_REASON
@system_option
def promote(release: str, reason: str, data_dir: Path | None) -> None:
    """Serve RELEASE from now on, whatever the gate said of it. To return to an older one, use `rollback`."""
    from infra.apps.releases import control
    from infra.apps.releases.promote import promote

    settings = find.find(data_dir).settings
    in_force = control.read(settings)
    judged = promote(settings, in_force, release, reason)
    already, before = in_force.current == release, in_force.current
    place = f", in the place of {before}" if before and not already else ""
    console().print(f"{release} serves {'already' if already else 'from now on'}{place}.")
    console().print(f"The gate: {printable(judged.text())}. {printable(judged.why)}", markup=False)


@release_command.command("activate", hidden=True)
@click.argument("release")
@_REASON
@system_option
@click.pass_context
def activate(context: click.Context, release: str, reason: str, data_dir: Path | None) -> None:
    """The former name of `promote`."""
    click.echo("freshet: `release activate` is called `release promote` now", err=True)
    context.invoke(promote, release=release, reason=reason, data_dir=data_dir)


@release_command.command("rollback")
@click.argument("release", required=False, metavar="")
@click.option(
    "--to",
    default="",
    metavar="ID",
    help="An older release, or built-in for none.  [default: parent]",
)
@_REASON
@system_option
def rollback(release: str | None, to: str, reason: str, data_dir: Path | None) -> None:
    """Return to an older release, by default to the parent of the one that serves."""
    from infra.apps.releases import control
    from infra.apps.releases.promote import roll_back

    if release and to:
        raise click.UsageError("name one release to return to, with --to")
    settings = find.find(data_dir).settings
    name = roll_back(settings, control.read(settings), to or release or "", reason)
    console().print(f"{name or 'No release'} serves from now on.")


def _found(data_dir: Path | None, *releases: str) -> list[Any]:
    """The releases, with their files checked; without a running system those of the folder and the bucket.
    Errors: `ReleaseRefused`, `BadSetting`."""
    from infra.apps.releases import control
    from infra.apps.releases import find as lookup

    try:
        settings = find.find(data_dir).settings
        in_force = control.read(settings)
    except find.NothingRuns:
        settings, in_force = find.settings_of(data_dir), control.NOTHING
    return [lookup.find(settings, in_force, release) for release in releases]


def _cell(value: object) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
