"""One run: a system, a crowd, faults; then everything is compared."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from infra.client.client import Client
from tests.chaos.check import accounts, await_quiet, doubles, wrong_values
from tests.chaos.crowd import ITEMS, Crowd, item
from tests.chaos.faults import Conductor
from tests.chaos.ledgers import read_ledgers
from tests.chaos.poison import Poisoner
from tests.chaos.report import Run
from tests.chaos.schedule import SLOT_SECONDS, schedule
from tests.chaos.sender import Sender
from tests.chaos.watch import Watch
from tests.chaos.world import BROKERS, World, world

SENDERS: Final = 4
FINISH_SECONDS: Final = 20.0
QUIET_SECONDS: Final = 60.0
DOUBLED: Final = ("doubled", "links_merged_twice")


class Options(NamedTuple):
    """`rate`: events a second, all senders together; `broker`: one of `BROKERS`; `slot`: seconds from one
    fault to the next."""

    seconds: float = 45.0
    rate: float = 2000.0
    broker: str = "embedded"
    slot: float = SLOT_SECONDS


def run(
    seed: int, directory: Path, options: Options, say: Callable[[str], None] = lambda line: None
) -> Run:
    """`directory` goes where all is well; else it is kept, and `logs` names it."""
    shutil.rmtree(directory, ignore_errors=True)
    begun = time.monotonic()
    made = Run(seed=seed, broker=BROKERS[options.broker])
    try:
        with world(directory, options.broker) as system:
            say(f"seed {seed}: up after {time.monotonic() - begun:.1f} s, logs in {directory}")
            _live(system, made, options, say)
    except Exception as error:  # named in the report, and the run has failed
        made.failure = f"{type(error).__name__}: {error}"[:500]
        (directory / "failure.txt").write_text(traceback.format_exc())
    made.seconds = round(time.monotonic() - begun, 1)
    if made.passed:
        shutil.rmtree(directory)
    else:
        made.logs = str(directory)
    return made


def _live(system: World, made: Run, options: Options, say: Callable[[str], None]) -> None:
    directory = system.direct.data_dir
    crowd = Crowd(made.seed, int(time.time() * 1000))
    watch = Watch(system.direct, system.settings)
    asyncio.run(_put_items(system.system.url))
    ledgers = directory / "ledgers"
    senders = [
        Sender(f"c{n}", system.system.url, crowd, ledgers, options.rate / SENDERS)
        for n in range(SENDERS)
    ]
    poisoner = Poisoner(system.settings, crowd, ledgers)
    try:
        began = time.monotonic()
        for thread in (*senders, poisoner):
            thread.start()
        rnd = random.Random(f"moments {made.seed}")
        conductor = Conductor(system, watch, senders, poisoner, options.rate, rnd)
        for fault in schedule(made.seed, options.seconds, options.slot):
            felt = conductor.conduct(fault, began)
            made.faults.append(felt)
            back = "NEVER" if felt.recovery_s is None else f"after {felt.recovery_s:.2f} s"
            say(f"  {felt.at:5.1f} s  {felt.kind:42} back {back} (last: {felt.lacked})")
            if felt.recovery_s is None:
                break
        time.sleep(max(0.0, began + options.seconds - time.monotonic()))
    finally:
        for sender in senders:
            sender.finish(FINISH_SECONDS)
        poisoner.finish()
    _judge(system, made, watch, crowd, senders, say)


def _judge(
    system: World,
    made: Run,
    watch: Watch,
    crowd: Crowd,
    senders: list[Sender],
    say: Callable[[str], None],
) -> None:
    made.retries = sum(sender.retries for sender in senders)
    made.spooled_requests = sum(sender.spooled for sender in senders)
    times = [felt.recovery_s for felt in made.faults]
    made.recovery_s = None if None in times else max(times, default=None)  # type: ignore[type-var]
    begun = time.monotonic()
    await_quiet(watch, QUIET_SECONDS)
    quiet = time.monotonic()
    found = accounts(system.settings, read_ledgers(system.direct.data_dir / "ledgers"), crowd)
    made.sent, made.acknowledged = found.sent, found.acknowledged
    made.refused, made.dead_letters = found.refused, found.poison
    made.records, made.examples = found.records, found.examples
    _count(made, found.counts)
    made.failure = "; ".join(filter(None, (sender.failure for sender in senders)))
    _count(made, doubles(system.settings))
    _count(made, wrong_values(system.settings))
    say(f"  quiet after {quiet - begun:.1f} s, compared in {time.monotonic() - quiet:.1f} s")


def _count(made: Run, counts: Mapping[str, int]) -> None:
    """Adds what was found to what the report says of it."""
    counts = {name: n for name, n in counts.items() if n}
    lost = sum(n for name, n in counts.items() if name.startswith("lost"))
    doubled = sum(counts.get(name, 0) for name in DOUBLED)
    made.wrong = {**made.wrong, **counts}
    made.lost += lost
    made.doubled += doubled
    made.wrong_fields += sum(counts.values()) - lost - doubled


async def _put_items(url: str) -> None:
    """Errors: `ApiError`."""
    async with Client(url) as client:
        await client.send_items([item(n) for n in range(ITEMS)])
