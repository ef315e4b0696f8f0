"""`freshet serve`, `flows run`, `setup`: one process each, for a supervisor to run."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from infra.cli.options import json_option, partitions_option, print_json, system_option
from infra.local.find import find
from schemas.errors import FreshetError
from schemas.flows import BY_NAME, REBUILT

if TYPE_CHECKING:
    from infra.settings import Settings

SCALE_SECONDS: Final = 30.0


@click.command("serve")
def serve_command() -> None:
    """Run one serving worker, which answers the API on FRESHET_PORT.

    Several workers may share a port: the kernel spreads connections over them. Settings come from the
    environment (KAFKA_BOOTSTRAP, REDIS_URL, FRESHET_PORT, FRESHET_TOKEN …); `freshet config` lists them.
    """
    from infra.local.home import prepare_folder
    from infra.settings import from_environment
    from serving import server

    settings = from_environment()
    prepare_folder(settings.data_dir, needed=False)
    server.run(settings)


@click.command("setup")
def setup_command() -> None:
    """Create the topics that are missing, and check that Redis is set to keep its data.

    Run it before flows and serving, and after an upgrade: topics that exist get the bound on timestamps that
    lie ahead, and every other difference from what is declared is printed. A second run changes nothing.
    `freshet up` does it by itself.
    """
    from infra import logs
    from infra.kafka import kafka_client, topic_configs
    from infra.kafka.names import broker_name
    from infra.settings import from_environment
    from infra.store import redis_client
    from infra.store.version import check_version

    settings = from_environment()
    logs.set_up(settings.log_level or "warning")
    with redis_client.connect(settings) as client:
        check_version(client)
        redis_client.check(client)
    topics = kafka_client.ensure_topics(settings)
    for sentence in topic_configs.align(settings):
        click.echo(sentence)
    counts = (f"{broker_name(settings, it)} ({info.partitions})" for it, info in topics.items())
    click.echo("topics: " + ", ".join(counts))


@click.group("flows")
def flows_command() -> None:
    """Run one dataflow, or print what it would write.

    \b
    freshet flows run catalogue
    freshet flows run people --partition 3 --from 1200 --dry-run
    """


@flows_command.command("run")
@click.argument("name", type=click.Choice(tuple(BY_NAME)))
@partitions_option("Flow people: own this partition (repeatable).  [default: all]")
@click.option(
    "--from", "start", type=click.IntRange(0), help="With --dry-run: the first offset to fold."
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="With --dry-run: the number of records to fold.",
)
@click.option(
    "--generation",
    type=click.IntRange(0),
    help="Flows people and rollup: write this generation of keys, live or not (used by freshet rebuild).",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Flow people: run so many processes, which share the partitions and are restarted. Worker i exports"
    " its metrics on FRESHET_METRICS_PORT + i.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be written; write nothing.")
@system_option
@json_option
def run_flow(
    name: str,
    partitions: tuple[int, ...],
    start: int | None,
    limit: int,
    generation: int | None,
    workers: int | None,
    dry_run: bool,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Run dataflow NAME until SIGTERM or Ctrl-C.

    With FRESHET_METRICS_PORT the flow answers Prometheus on that port. With --workers each process exports
    its own partitions, on that port and on those above it; prometheus-targets.json in the data folder lists
    them, also after `freshet flows scale`.

    \b
    freshet flows run people --partition 0 --partition 2
    freshet flows run people --workers 3
    freshet flows run people --partition 3 --from 1200 --dry-run
    """
    if dry_run:
        if name != "people" or len(partitions) != 1:
            raise click.UsageError("--dry-run takes the flow people and one --partition")
        _dry_run(data_dir, partitions[0], start or 0, limit, as_json)
        return
    if start is not None:
        raise click.UsageError("--from needs --dry-run: a running flow starts at its fence")
    from infra import heartbeat, logs
    from infra.local.home import prepare_folder
    from infra.local.supervisor import await_handover
    from infra.priority import lower_priority
    from infra.settings import from_environment

    settings = from_environment()
    prepare_folder(settings.data_dir, needed=False)
    heartbeat.start()
    logs.set_up(settings.log_level or "warning")
    flow = module_of(name)
    lower_priority(BY_NAME[name].nice)  # only now: other processes wait for the start
    if generation is not None and name not in REBUILT:
        raise click.UsageError(f"--generation is for the flows {' and '.join(REBUILT)}")
    options = {} if generation is None else {"generation": generation}
    if name != "people":
        if partitions or workers:
            raise click.UsageError("--partition and --workers are for the flow people")
        flow.run(settings, **options)
        return
    if workers is not None:
        if partitions or options:
            raise click.UsageError(
                "--workers shares all partitions of the live generation: omit --partition and --generation"
            )
        _share(settings, workers)
        return
    if any(partition >= settings.partitions for partition in partitions):
        raise click.UsageError(f"partitions are 0 to {settings.partitions - 1}")
    await_handover()
    flow.run(settings, sorted(set(partitions)) or list(range(settings.partitions)), **options)


def module_of(flow: str) -> Any:
    """The module `flows/<flow>.py`, or `dataflow` in the package of that name."""
    module = importlib.import_module(f"flows.{flow}")
    return (
        importlib.import_module(f"flows.{flow}.dataflow") if hasattr(module, "__path__") else module
    )


@flows_command.command("scale")
@click.argument("count", metavar="N", type=click.IntRange(1))
@system_option
def scale(count: int, data_dir: Path | None) -> None:
    """Share the partitions of `events` among N processes, in a running system.

    The old processes stop at their fences and the new ones start there. Nothing is lost, and events wait
    for a second or two. N holds until the system is started again.
    """
    import time

    from infra.local.workers import Workers

    settings = find(data_dir).settings
    _check_workers(settings, count)
    workers = Workers(settings.data_dir)
    if not workers.running:
        raise FreshetError(
            f"no process runs workers in {settings.data_dir}: start them with `freshet up`, or with"
            " `freshet flows run people --workers N`"
        )
    workers.request(count)
    until = time.monotonic() + SCALE_SECONDS
    while workers.running != count:
        if time.monotonic() > until:
            raise FreshetError(
                f"the workers were not scaled within {SCALE_SECONDS:g} s: see {settings.data_dir}/logs"
            )
        time.sleep(0.05)
    click.echo(f"{count} workers share {settings.partitions} partitions")


def _share(settings: Settings, workers: int) -> None:
    from infra.local.system import share_people

    _check_workers(settings, workers)
    if failure := share_people(settings, workers, click.echo):
        raise FreshetError(failure)


def _check_workers(settings: Settings, count: int) -> None:
    if count > settings.partitions:
        raise click.UsageError(
            f"there are {settings.partitions} partitions: take at most {settings.partitions} workers"
        )


def _dry_run(data_dir: Path | None, partition: int, start: int, limit: int, as_json: bool) -> None:
    import msgspec

    running = find(data_dir)
    if partition >= running.settings.partitions:
        raise click.UsageError(f"partitions are 0 to {running.settings.partitions - 1}")
    settings = msgspec.structs.replace(running.settings, batch=min(limit, running.settings.batch))
    people = module_of("people")
    writes: Iterator[dict[str, Any]] = people.dry_run(settings, partition, start, limit)
    count = 0
    for count, write in enumerate(writes, 1):  # noqa: B007 - printed after the loop
        if as_json:
            print_json(write)
        else:
            click.echo("\n".join(_lines(write)))
    if not as_json:
        what = "1 transaction" if count == 1 else f"{count} transactions"
        click.echo(f"{what} would be committed; nothing was written", err=True)


def _lines(write: dict[str, Any]) -> Iterator[str]:
    """The writes of one batch: its offsets, then a line for each key."""
    yield f"partition {write['partition']}, offsets {write['first']} to {write['next'] - 1}"
    for name, value in write.items():
        if isinstance(value, dict):
            yield from (f"  {name:12} {key}  {size} B" for key, size in value.items())
        elif isinstance(value, list | tuple):
            yield from (f"  {name:12} {it}" for it in value)
