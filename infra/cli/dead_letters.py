"""`freshet dead-letters`: records that no flow could decode, and sending them once more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from infra.cli.options import json_option, print_json, system_option
from infra.local.find import find
from infra.terminal.text import console, table
from schemas.dead_letters import whole_identity
from schemas.errors import FreshetError
from schemas.flows import FOLDS
from schemas.times import iso

if TYPE_CHECKING:
    from infra.kafka.dead_letters import Letter, Redriven
    from infra.settings import Settings
    from schemas.dead_letters import DeadLetter

STATES: Final = ("waiting", "claimed", "redriven")
FOLDED_TOPICS: Final = tuple(dict.fromkeys(flow.topic for flow in FOLDS))
Matcher = Callable[["DeadLetter"], bool]


@click.group("dead-letters")
def dead_letters_command() -> None:
    """List records that no flow could decode, and send them once more.

    \b
    freshet dead-letters list
    freshet dead-letters show events:3:1200:0
    freshet dead-letters redrive --reason not_json --dry-run
    freshet dead-letters resume events 3
    """


def _filters(command: Any) -> Any:
    for option in (
        click.option("--reason", help="Only this reason, or reasons that begin with this word."),
        click.option("--partition", type=click.IntRange(0), help="Only this partition."),
        click.option("--topic", type=click.Choice(FOLDED_TOPICS), help="Only this topic."),
    ):
        command = option(command)
    return command


def _matcher(topic: str | None, partition: int | None, reason: str | None) -> Matcher:
    def matches(letter: DeadLetter) -> bool:
        return (
            topic in (None, letter.topic)
            and partition in (None, letter.partition)
            and reason in (None, letter.reason, letter.reason.partition(":")[0])
        )

    return matches


@dead_letters_command.command("list")
@_filters
@click.option("--state", type=click.Choice(STATES), help="Only letters in this state.")
@click.option("--each", is_flag=True, help="Print a line for each letter, not for each reason.")
@system_option
@json_option
def list_letters(
    topic: str | None,
    partition: int | None,
    reason: str | None,
    state: str | None,
    each: bool,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Count dead letters by topic, partition and reason. A record counts once, however often it came."""
    settings, matches = find(data_dir).settings, _matcher(topic, partition, reason)
    held = [it for it in _all(settings) if matches(it.letter) and state in (None, it.state)]
    rows = [_plain(it) for it in held] if each else grouped(held)
    stopped = _paused(settings)
    if as_json:
        print_json({"letters" if each else "groups": rows, "paused": stopped})
        return
    heads = {"letters": "#letters", "offset": "#offset", "bytes": "#bytes", "tries": "#tries"}
    if rows:
        columns = [heads.get(name, name) for name in rows[0]]
        console().print(table("", columns, [list(row.values()) for row in rows]))
    else:
        click.echo("no dead letters")
    for it in stopped:
        click.echo(_sentence(it))


@dead_letters_command.command("show")
@click.argument("identity", metavar="ID")
@click.option(
    "--bytes",
    "with_bytes",
    is_flag=True,
    help="Print key, value and headers (personal data).",
)
@system_option
@json_option
def show_letter(identity: str, with_bytes: bool, data_dir: Path | None, as_json: bool) -> None:
    """Show one letter. ID is topic:partition:offset:index; without an index it is 0."""
    settings, identity = find(data_dir).settings, whole_identity(identity)
    by_id = {it.letter.identity: it for it in _all(settings, lambda it: it.identity == identity)}
    if identity not in by_id:
        raise FreshetError(
            "there is no such dead letter: `freshet dead-letters list --each` lists them"
        )
    document, letter = _plain(by_id[identity]), by_id[identity].letter
    if letter.headers_too_long:
        document["headers_too_long"] = letter.headers_too_long
    if with_bytes:
        document |= {"headers": letter.headers, "key": letter.key, "value": letter.value}
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        click.echo(f"{name:10} {value!r}" if isinstance(value, bytes) else f"{name:10} {value}")


@dead_letters_command.command("redrive")
@click.argument("identities", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--all", "everything", is_flag=True, help="Every letter that waits.")
@click.option("--dry-run", is_flag=True, help="Print how many would be sent; send nothing.")
@system_option
@json_option
def redrive(
    identities: tuple[str, ...],
    topic: str | None,
    partition: int | None,
    reason: str | None,
    everything: bool,
    dry_run: bool,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Send the records of dead letters to their topic once more, with the same bytes, key and partition.

    The record of a letter is sent once: a second redrive does nothing. A record that fails again becomes a
    new letter, which counts its tries. Exit status 1 where a record is no longer in its topic.
    """
    chosen = (topic, partition, reason) != (None, None, None)
    if not identities and not chosen and not everything:
        raise click.UsageError(
            "name letters by id, or take --topic, --partition, --reason or --all"
        )
    identities = tuple(map(whole_identity, identities))
    filtered = _matcher(topic, partition, reason)
    matches = lambda it: filtered(it) and (not identities or it.identity in identities)  # noqa: E731
    outcome = _redrive(find(data_dir).settings, matches, identities, dry_run)
    counts = {
        "sent": len(outcome.sent),
        "redriven_before": len(outcome.before),
        "claimed_by_another_run": len(outcome.elsewhere),
        "gone": len(outcome.gone),
        "dry_run": dry_run,
    }
    if as_json:
        print_json(counts)
    else:
        verb = "would be sent" if dry_run else "sent"
        click.echo(f"{counts['sent']:,} {verb}, {counts['redriven_before']:,} were redriven before")
        if outcome.elsewhere:
            click.echo(f"{len(outcome.elsewhere):,} are being redriven by another run")
    if outcome.gone:
        raise FreshetError(
            f"{len(outcome.gone):,} were too long for a letter, and their topic no longer has them:"
            f" {', '.join(outcome.gone[:5])}"
        )


@dead_letters_command.command("resume")
@click.argument("topic", type=click.Choice(FOLDED_TOPICS))
@click.argument("partition", type=click.IntRange(0))
@click.option(
    "--until",
    type=click.IntRange(0),
    help="Accept poison before it.  [default: the log's end now]",
)
@system_option
def resume(topic: str, partition: int, until: int | None, data_dir: Path | None) -> None:
    """Resume a partition that poison has paused, and accept the poison before --until.

    Poison is a record that cannot be decoded. Each one still becomes a dead letter. Poison from --until on
    is counted from zero again.
    """
    from infra.kafka.audit import administering
    from infra.kafka.offsets import offsets
    from infra.store import redis_client
    from infra.store.paused import accept

    settings = find(data_dir).settings
    end_offsets = offsets(settings, [topic]).get(topic, {})
    if partition not in end_offsets:
        raise click.UsageError(f"{topic} has partitions 0 to {len(end_offsets) - 1}")
    offset = end_offsets[partition][1] if until is None else until
    target = f"partition:{topic}:{partition}"
    with (
        administering(settings, "dead-letters resume", target),
        redis_client.connect(settings) as client,
    ):
        accept(client, settings.keyspace, topic, partition, offset)
    click.echo(f"{topic} partition {partition}: poison before offset {offset:,} is accepted")


def _all(settings: Settings, keep: Matcher = lambda letter: False) -> Iterable[Letter]:
    from infra.kafka.dead_letters import Letterbox

    box = Letterbox(settings, keep)
    box.close()
    return box.letters.values()


def _redrive(
    settings: Settings, matches: Matcher, identities: tuple[str, ...], dry_run: bool
) -> Redriven:
    from infra.kafka.audit import administering
    from infra.kafka.dead_letters import Letterbox, Redriven

    box = Letterbox(settings, matches)
    try:
        missing = [name for name in identities if name not in box.letters]
        if missing:
            raise FreshetError(
                f"there is no dead letter {missing[0]}: see `freshet dead-letters list --each`"
            )
        due = [name for name, it in box.letters.items() if matches(it.letter)]
        if not dry_run:
            letters = [box.letters[name].letter for name in due]
            targets = dict.fromkeys(f"dead-letters:{it.topic}:{it.partition}" for it in letters)
            if not due:
                return Redriven()
            with administering(settings, "dead-letters redrive", *targets):
                return box.redrive(due)
        sent = [name for name in due if box.letters[name].sent]
        return Redriven(sent=[name for name in due if name not in set(sent)], before=sent)
    finally:
        box.close()


def grouped(letters: Iterable[Letter]) -> list[dict[str, Any]]:
    """A row for each topic, partition and reason."""
    groups: dict[tuple[str, int, str], list[Letter]] = {}
    for it in letters:
        groups.setdefault((it.letter.topic, it.letter.partition, it.letter.reason), []).append(it)
    return [
        {
            "topic": topic,
            "partition": partition,
            "reason": reason,
            "letters": len(those),
            **{state: sum(it.state == state for it in those) for state in STATES},
            "bytes": sum(it.letter.length for it in those),
            "first": min(it.letter.offset for it in those),
            "last": max(it.letter.offset for it in those),
        }
        for (topic, partition, reason), those in sorted(groups.items())
    ]


def _plain(it: Letter) -> dict[str, Any]:
    return {
        "id": it.letter.identity,
        "reason": it.letter.reason,
        "state": it.state,
        "record_at": iso(it.letter.record_at),
        "told_at": iso(it.reported_at),
        "bytes": it.letter.length,
        "tries": it.letter.tries,
        "repeats": it.repeats,
        "redriven": f"{it.letter.partition}:{it.sent.sent}" if it.sent else "",
    }


def _paused(settings: Settings) -> list[dict[str, Any]]:
    from infra.store import redis_client
    from infra.store.paused import paused

    with redis_client.connect(settings) as client:
        return [it._asdict() for it in paused(client, settings)]


def _sentence(it: dict[str, Any]) -> str:
    return (
        f"{it['topic']} partition {it['partition']} is PAUSED at {it['stands']:,} after"
        f" {it['row']:,} records in a row that could not be decoded: `freshet dead-letters resume"
        f" {it['topic']} {it['partition']}` accepts them"
    )
