"""`freshet topics`, `freshet keys`: the data dictionary, made from the schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from infra.cli.options import json_option, print_json, system_option
from infra.local.find import NothingRuns, find, settings_of
from infra.terminal.text import console, table


@click.command("topics")
@click.option("--schema", metavar="NAME", help="Print the JSON Schema of a topic's records.")
@system_option
@json_option
def topics_command(schema: str | None, data_dir: Path | None, as_json: bool) -> None:
    """List the topics: key, writers, readers, retention, and how many records each holds.

    Partitions and records are those of the running system; without one these columns are empty.

    \b
    freshet topics
    freshet topics --schema events > events.schema.json
    """
    from schemas.topics import BY_NAME

    if schema is not None:
        from schemas.export import json_schemas

        if schema not in BY_NAME:
            raise click.UsageError(f"--schema takes one of {', '.join(BY_NAME)}")
        click.echo(json.dumps(json_schemas()[schema], indent=2))
        return
    rows = _topics(data_dir)
    if as_json:
        print_json(rows)
        return
    columns = (
        "topic",
        "schema",
        "key",
        "writers",
        "readers",
        "kept",
        "#partitions",
        "#records",
        "#next offsets",
    )
    console().print(
        table(
            "",
            columns,
            (
                (
                    it["name"],
                    it["schema"],
                    it["key"],
                    ", ".join(it["writers"]),
                    ", ".join(it["readers"]),
                    it["kept"],
                    len(it["partitions"]) or "",
                    f"{it['records']:,}" if it["partitions"] else "",
                    " ".join(f"{p['end']}" for p in it["partitions"]),
                )
                for it in rows
            ),
        )
    )


@click.command("keys")
@system_option
@json_option
def keys_command(data_dir: Path | None, as_json: bool) -> None:
    """List the Redis keys: type, the flow that owns each, its readers, and the topic that rebuilds it.

    Keys carry the namespace of the running system; without one, that of the environment
    (FRESHET_NAMESPACE).
    """
    from schemas.keys import KEYS

    keyspace = settings_of(data_dir).keyspace
    held = [key._replace(pattern=keyspace.pattern(key)) for key in KEYS]
    if as_json:
        print_json([key._asdict() for key in held])
        return
    rows = (
        (key.pattern, key.kind, key.owner, ", ".join(key.readers), key.rebuilt_from, key.what)
        for key in held
    )
    columns = ("key", "type", "owner", "readers", "rebuilt from", "what")
    console().print(table("", columns, rows))


def _topics(data_dir: Path | None) -> list[dict[str, Any]]:
    from infra.kafka.offsets import offsets
    from schemas.flows import flows_of_topic
    from schemas.times import DAY_MS
    from schemas.topics import TOPICS

    try:
        live = offsets(find(data_dir).settings, [topic.name for topic in TOPICS])
    except NothingRuns:
        if data_dir is not None:
            raise
        live = {}
    rows: list[dict[str, Any]] = []
    for topic in TOPICS:
        folds = [flow.name for flow in flows_of_topic(topic.name)]
        partitions = [
            {"partition": partition, "start": start, "end": end}
            for partition, (start, end) in sorted(live.get(topic.name, {}).items())
        ]
        kept = f"{topic.retention_ms // DAY_MS} days" if topic.retention_ms > 0 else "for ever"
        rows.append(
            {
                "name": topic.name,
                "schema": topic.schema.text,
                "key": topic.key,
                "records": sum(p["end"] - p["start"] for p in partitions),
                "kinds": [record.__name__ for record in topic.records],
                "writers": topic.writers,
                "readers": list(dict.fromkeys((*topic.readers, *folds))),
                "kept": kept + (", compacted" if topic.compacted else ""),
                "config": topic.config,
                "partitions": partitions,
            }
        )
    return rows
