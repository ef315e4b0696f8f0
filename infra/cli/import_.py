"""`freshet import`: history, sent to the API as any other event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from infra.cli.options import json_option, print_json, system_option
from infra.client import history, over_limit
from infra.client.history import Progress, Summary
from infra.datasets.send import Bar, Endpoint, read, send_catalogue, send_items
from infra.local.find import find
from infra.terminal.text import console

OVER_LIMIT_PENDING: Final = (
    "  how many of those came after the limit of a partition and day, so that they never count, is not known"
    " yet: unknown_over_limit in `freshet status`"
)
FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)


@click.command("import")
@click.option(
    "--movielens",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of MovieLens files.",
)
@click.option("--items", type=FILE, help="Items as NDJSON, plain or .gz.")
@click.option("--events", type=FILE, help="Events as NDJSON, plain or .gz.")
@click.option(
    "--connections",
    type=click.IntRange(1, 32),
    default=4,
    show_default=True,
    help="Connections to the API.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1000),
    default=500,
    show_default=True,
    help="Lines in one request.",
)
@click.option(
    "--url", envvar="FRESHET_URL", help="Address of the API.  [default: the running system's]"
)
@system_option
@json_option
def import_command(
    movielens: Path | None,
    items: Path | None,
    events: Path | None,
    connections: int,
    batch: int,
    url: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Load history: items first, then events, which count at the time they occurred.

    Each line is a JSON object as the API takes it (`/docs` of the running system). Events should be in
    order of time. An event without event_id gets one from its line, so a file that is sent twice within the
    de-duplication window counts once. Events on items that nobody put yet wait for them, up to a limit.

    \b
    freshet import --movielens ml-latest-small
    freshet import --items items.ndjson --events events.ndjson.gz
    """
    if not (movielens or items or events):
        raise click.UsageError("name what to load with --movielens, --items or --events")
    if url and not url.startswith(("http://", "https://")):
        raise click.UsageError("--url takes an address like http://host:8080")
    running = find(data_dir)
    target = Endpoint(url or running.url, running.settings.token, connections, batch)
    history.check_answers(target.url)
    before = over_limit.count_so_far(target.url, target.token)
    summaries: dict[str, Summary] = {}
    with _bars(as_json) as bar:
        if movielens:
            from infra.datasets.movielens import load

            summaries |= send_catalogue(target, load(movielens), bar)
        if items:
            summaries["items"] = send_items(target, read(items, "item_id"), None, bar)
        if events:
            lines = read(events, "user_id", "anonymous_id", numbered=True)
            summaries["events"] = target.send(history.EVENTS, lines, bar("events", None))
    for sent in summaries.values():
        sent.unknown_over_limit = over_limit.count_of(sent, before, target.url, target.token)
    _print_summaries(summaries, as_json)


@contextmanager
def _bars(quiet: bool) -> Iterator[Bar]:
    """A maker of progress bars with rates, on stderr; of none, for machines and pipes."""
    on = console(stderr=True)
    if quiet or not on.is_terminal:
        yield lambda name, total: lambda count: None
        return
    from rich import progress

    class _Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> str:
            speed = task.finished_speed or task.speed
            return f"{speed:,.0f}/s" if speed else ""

    columns = (
        progress.TextColumn("{task.description:7}"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:,.0f}"),
        _Rate(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=on) as shown:

        def bar(name: str, total: int | None) -> Progress:
            task = shown.add_task(name, total=total)
            return lambda count: shown.advance(task, count)

        yield bar


def _print_summaries(summaries: dict[str, Summary], as_json: bool) -> None:
    if as_json:
        print_json({name: _plain(summary) for name, summary in summaries.items()})
    else:
        for name, it in summaries.items():
            again = f", {it.retries} batches sent again" if it.retries else ""
            click.echo(
                f"{name}: {it.accepted:,} of {it.sent:,} accepted in {it.seconds:.1f} s"
                f" ({it.per_second:,.0f}/s{again})"
            )
            if it.duplicates:
                click.echo(f"  {it.duplicates:,} left out: each equals an earlier line")
            if it.unknown_items:
                click.echo(f"  {it.unknown_items:,} on items that the catalogue does not have")
            if it.unknown_over_limit is None:
                click.echo(OVER_LIMIT_PENDING)
            elif it.unknown_over_limit:
                click.echo(
                    f"  {it.unknown_over_limit:,} of those never count: they came after the limit of a"
                    " partition and day"
                )
            for (where, code), count in it.rejected.most_common(10):
                click.echo(f"  {count:,} rejected: {where} {code}")
    if any(summary.rejected for summary in summaries.values()):
        raise click.exceptions.Exit(1)


def _plain(summary: Summary) -> dict[str, Any]:
    return {
        "sent": summary.sent,
        "accepted": summary.accepted,
        "duplicates": summary.duplicates,
        "unknown_items": summary.unknown_items,
        "unknown_over_limit": summary.unknown_over_limit,
        "retries": summary.retries,
        "seconds": round(summary.seconds, 3),
        "per_second": round(summary.per_second, 1),
        "rejected": [
            {"field": where, "code": code, "count": count}
            for (where, code), count in Counter(summary.rejected).most_common()
        ],
        "positions": [f"{at}:{offset}" for at, offset in sorted(summary.positions.items())],
    }
