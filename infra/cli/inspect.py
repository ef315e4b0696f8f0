"""`freshet inspect`: what is stored about one user, one item, one slate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from infra.apps.inspect import arms
from infra.apps.inspect.held import item_held, pseudonym_of, slate_held, user_held
from infra.cli.options import json_option, print_json, system_option
from infra.local.find import find
from infra.terminal.text import console, printable, table
from schemas.times import iso


@click.group("inspect")
def inspect_command() -> None:
    """Show what is stored about one user, one item or one slate.

    \b
    freshet inspect user u1
    freshet inspect item i9
    freshet inspect slate 01JDB3…
    """


@inspect_command.command("user")
@click.argument("user_id")
@click.option("--anonymous", is_flag=True, help="USER_ID is an anonymous id.")
@system_option
@json_option
def user(user_id: str, anonymous: bool, data_dir: Path | None, as_json: bool) -> None:
    """Show state, recent actions, affinities and preferences of USER_ID.

    USER_ID may also be a pseudonym, 32 hex digits.
    """
    settings = find(data_dir).settings
    held = user_held(settings, pseudonym_of(settings, user_id, anonymous), int(time.time() * 1000))
    if as_json:
        print_json(held)
        return
    out = console()
    folded = f"folded up to {held['position']}" if held["position"] else "no event folded yet"
    out.print(f"{held['pseudonym']} in partition {held['partition']}, {folded}")
    if not held["known"] and not (held["preferences"] or held["linked_to"]):
        out.print("never seen")
        return
    counts = ", ".join(f"{count} {action}" for action, count in held["counts"].items())
    facts = {
        "actions": counts,
        "first": held["first"],
        "newest": held["newest"],
        "session since": held["session_start"],
        "seen": f"{held['seen']} items, {held['hidden']} hidden",
        "linked to": held["linked_to"],
        "variants of": held["links"]["first"],
        "links pending": held["links"]["pending"],
        "preferences": held["preferences"],
    }
    for name, value in facts.items():
        if value:
            out.print(f"  {name:14} {printable(str(value))}", markup=False)
    rows = [
        (it["at"], it["action"], it["item_id"], it["category"], it["title"])
        for it in held["recent"]
    ]
    out.print(table("Recent actions", ("at", "action", "item", "category", "title"), rows))
    affinities = [(it["category"], f"{it['weight']:.3f}") for it in held["affinity"]]
    out.print(table("Affinities", ("category", "#weight"), affinities))


@inspect_command.command("item")
@click.argument("item_id")
@system_option
@json_option
def item(item_id: str, data_dir: Path | None, as_json: bool) -> None:
    """Show catalogue record, popularity, arms and neighbours of ITEM_ID."""
    settings = find(data_dir).settings
    held = item_held(settings, item_id, int(time.time() * 1000))
    if as_json:
        print_json(held)
        return
    out = console()
    for name, value in (held["item"] or {"item_id": item_id, "catalogue": "not in it"}).items():
        out.print(f"  {name:14} {printable(str(value))}", markup=False)
    rows = [(window, f"{value:.4g}") for window, value in held["popularity"].items()]
    out.print(table("Popularity", ("half-life", "#decayed actions"), rows))
    if held["arms"]:
        shown = [arms.cells(it) for it in held["arms"]]
        out.print(table("Outcomes of showing it", arms.COLUMNS, shown))
    else:
        out.print("not shown yet")
    best = held["neighbours"][:20]  # people want the first few, --json has all
    near = [(it["item_id"], f"{it['score']:.3f}", it["title"]) for it in best]
    out.print(table("People who took this also took", ("item", "#score", "title"), near))


@inspect_command.command("slate")
@click.argument("slate_id")
@system_option
@json_option
def slate(slate_id: str, data_dir: Path | None, as_json: bool) -> None:
    """Show the slate SLATE_ID, as the topic `slates` has it."""
    settings = find(data_dir).settings
    document = slate_held(settings, slate_id)
    if as_json:
        print_json(document)
        return
    out = console()
    for name, value in document.items():
        if name != "items":
            shown = iso(value) if name in ("now", "served_at") else printable(str(value))
            out.print(f"  {name:14} {shown}", markup=False)
    rows = [
        (
            it["rank"],
            it["item_id"],
            f"{it['score']:.4f}",
            it.get("category", ""),
            " ".join(it.get("sources", ())),
            " ".join([it.get("reason", ""), *it.get("because", ())]),
            it.get("group", ""),
            _placing(it),
        )
        for it in document["items"]
    ]
    names = ("#rank", "item", "#score", "category", "sources", "because", "group", "placed")
    out.print(table("", names, rows))


def _placing(item: dict[str, Any]) -> str:
    """How the item got its slot, where not by its score alone."""
    if item.get("explore") or item.get("probability", 1) < 1:
        drawn = "drawn" if item.get("explore") else "by score"
        return f"{drawn}, probability {item.get('probability', 1):.4g}"
    return "swapped in" if item.get("swapped") else ""
