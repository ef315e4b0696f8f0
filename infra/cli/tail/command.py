"""`freshet tail`: watch a topic, in colour or as JSON lines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from infra.cli.options import json_option, print_json, system_option
from infra.kafka.records import READABLE_TOPICS, records
from infra.local.find import find
from infra.terminal.text import local, printable

if TYPE_CHECKING:
    from infra.settings import Settings

VERBS: Final = {
    "view": ("viewed", "cyan"),
    "click": ("clicked", "green"),
    "purchase": ("bought", "bright_green"),
    "display": ("was shown", "bright_black"),
    "dwell": ("stayed with", "cyan"),
    "like": ("liked", "bright_green"),
    "dislike": ("disliked", "red"),
    "hide": ("hid", "red"),
    "cart": ("put in the cart", "green"),
    "rate": ("rated", "green"),
    "share": ("shared", "green"),
    "unlike": ("took back a like of", "yellow"),
    "unhide": ("no longer hides", "yellow"),
}
GAVE_BACK: Final = ("gave back", "yellow")
"""A purchase that is taken back."""


@click.command("tail")
@click.argument("topic", type=click.Choice(READABLE_TOPICS))
@click.option("--from-beginning", is_flag=True, help="Start at the oldest record.")
@click.option("-n", "count", type=click.IntRange(1), help="Stop after this number of records.")
@system_option
@json_option
def tail_command(
    topic: str, from_beginning: bool, count: int | None, data_dir: Path | None, as_json: bool
) -> None:
    """Watch the records of TOPIC until Ctrl-C. Those of a frame come one by one.

    \b
    freshet tail events
    freshet tail experiments
    freshet tail slates --from-beginning -n 5 --json | jq .value.items
    """
    settings = find(data_dir).settings
    seen = 0
    try:
        if topic == "experiments" and not as_json:
            _experiments(settings, from_beginning, count)
            return
        for record in records(settings, topic, from_beginning):
            if as_json:
                print_json(record)
            else:
                click.echo(line(topic, record))
            seen += 1
            if seen == count:
                return
    except KeyboardInterrupt:
        return


def _experiments(settings: Settings, from_beginning: bool, count: int | None) -> None:
    from infra.cli.tail import experiments

    if sys.stdout.isatty():
        # from a little back: the last readouts are there at once
        experiments.watch(
            records(settings, "experiments", from_beginning, last=experiments.LAST_READOUTS),
            count,
        )
    else:
        experiments.print_blocks(records(settings, "experiments", from_beginning), count)


def line(topic: str, record: dict[str, Any]) -> str:
    """A line of text about one record: local time, person, action."""
    at = click.style(local(record["timestamp"]), fg="bright_black")
    value = _printable(record["value"])
    if not isinstance(value, dict):
        what = "a bad frame" if isinstance(value, list) else "not JSON"
        return f"{at}  {record['partition']}:{record['offset']}  {what}"
    words = {
        "events": _event,
        "items": _item,
        "control": _control,
        "slates": _slate,
        "dead-letters": _letter,
        "audit": _audit,
    }[topic](value)
    return f"{at}  {words}"


def _event(value: dict[str, Any]) -> str:
    who, kind = _person(value.get("person")), value.get("kind")
    if kind == "action":
        verb, colour = VERBS.get(value["action"], (value["action"], "white"))
        if value["action"] == "purchase" and value.get("negative"):
            verb, colour = GAVE_BACK
        item = click.style(value["item_id"], bold=True)
        return f"{who}  {click.style(verb, fg=colour)} {item}{_dim(value.get('category'))}"
    if kind == "preferences":
        return f"{who}  {click.style('set preferences', fg='magenta')}"
    if kind == "link":
        return f"{who}  {click.style('is the same person as', fg='magenta')} {_person(value['to'])}"
    if kind == "unlink":
        verb = click.style("is no longer the same person as", fg="magenta")
        return f"{who}  {verb} {_person(value['to'])}"
    if kind == "linking":
        return f"{who}  {click.style('is being linked to', fg='magenta')} {_person(value['of'])}"
    if kind == "merge":
        return f"{who}  {click.style('takes over from', fg='magenta')} {_person(value.get('of'))}"
    if kind == "served":
        shown = f"{len(value['items'])} items at {value['placement']}"
        return f"{who}  {click.style('was served', fg='bright_black')} {shown}"
    return f"{who}  {click.style(str(kind), fg='magenta')}"


def _item(value: dict[str, Any]) -> str:
    kind, item = value.get("kind"), value.get("item") or {}
    name = click.style(value.get("item_id") or item.get("item_id", ""), bold=True)
    if kind == "put":
        return f"put     {name}  {item.get('title', '')}{_dim(item.get('category'))}"
    if kind == "patch":
        return f"patched {name}  {', '.join(value.get('fields', ()))}"
    return f"{click.style('deleted', fg='red')} {name}"


def _control(value: dict[str, Any]) -> str:
    by = f" by {value['actor']}" if value.get("actor") else ""
    subject = click.style(f"{value.get('subject')}:{value.get('id')}", bold=True)
    return f"{subject} from version {value.get('expected_version')}{by}{_dim(value.get('reason'))}"


def _slate(value: dict[str, Any]) -> str:
    items = [it["item_id"] for it in value.get("items", ())]
    shown = " ".join(items[:5]) + (" …" if len(items) > 5 else "")
    why = click.style(f"  {value['fallback']}", fg="yellow") if value.get("fallback") else ""
    return f"{_person(value.get('person'))}  {value.get('placement')}  {len(items)} items: {shown}{why}"


def _letter(value: dict[str, Any]) -> str:
    where = f"{value.get('topic')} {value.get('partition')}:{value.get('offset')}"
    return f"{where}  {click.style(str(value.get('reason')), fg='red')}"


def _audit(value: dict[str, Any]) -> str:
    who = value.get("account") or value.get("client")
    what = click.style(f"{value.get('method')} {value.get('route')}", bold=True)
    targets = " ".join(value.get("targets", ()))
    stage = f"answered {value['status']}" if value.get("status") else str(value.get("stage"))
    colour = "red" if value.get("status", 0) >= 400 else "magenta"
    said = click.style(stage, fg=colour)
    return f"{_person(value.get('person'))}  {who}  {what} {targets}  {said}{_dim(value.get('reason'))}"


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {name: _printable(it) for name, it in value.items()}
    return [_printable(it) for it in value] if isinstance(value, list) else value


def _person(pseudonym: str | None) -> str:
    # the first two digits name the key, which is the same for most people
    return click.style(pseudonym[2:10] if pseudonym else "no one  ", fg="blue")


def _dim(text: str | None) -> str:
    return click.style(f"  {text}", fg="bright_black") if text else ""
