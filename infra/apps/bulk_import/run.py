"""What `freshet import` does: it finds the system, opens files and memory, imports, and adds what can be said
only afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from infra.apps.bulk_import import memory, system
from infra.apps.bulk_import.asked import Asked, find_system
from infra.apps.bulk_import.findings import Show
from infra.apps.bulk_import.outcome import Outcome
from infra.apps.bulk_import.program import Bar, BulkImport
from infra.client import history, over_limit
from infra.local import home

MAX_UNKNOWN_SHARE: Final = 0.01
"""Of the accepted events: beyond it the items are wrong or missing, and a warning says so."""


def run(
    asked: Asked,
    outcomes: dict[str, Outcome],
    bar: Bar,
    show: Show,
    environment: Mapping[str, str],
) -> None:
    """Imports; `outcomes` gets what there is to say, also before an error.

    Errors: `NothingRuns`, `BadSetting`, `Unusable`, `SourceInUse`, `NotMovieLens`, `NotSent`,
    `NotRemembered`.
    """
    job = asked.job()
    target, _, folder = find_system(asked, environment, needed=True)
    history.check_answers(target.url)
    folder = home.prepare_folder(folder)
    log = system.log_name(target)
    others = memory.other_logs(folder, asked.source, log)
    before = over_limit.count_so_far(target.url, target.token)

    def await_items(item_ids: list[str]) -> None:
        history.await_items(target.url, item_ids, target.token)

    with memory.opened(folder, asked.source, log) as remembered:
        BulkImport(job, remembered, target.senders, bar, show, outcomes, await_items).run()
    for outcome in outcomes.values():
        outcome.sent.unknown_over_limit = over_limit.count_of(
            outcome.sent, before, target.url, target.token
        )
    if events := outcomes.get("events"):
        warn_of_unknown_items(events)
        warn_of_other_logs(events, others)


def warn_of_unknown_items(outcome: Outcome) -> None:
    """A warning where more than `MAX_UNKNOWN_SHARE` of the accepted events are on unknown items."""
    unknown, accepted = outcome.sent.unknown_items, outcome.sent.accepted
    if unknown > MAX_UNKNOWN_SHARE * accepted:
        outcome.findings.warn(
            "unknown_items",
            f"{unknown / accepted:.0%} of the events are on items that the catalogue does not have: import"
            " the items, too, or look at the column of item_id",
            unknown,
        )


def warn_of_other_logs(outcome: Outcome, others: int) -> None:
    """A warning where `others` events are remembered of another log, and none of this one."""
    if others:
        outcome.findings.warn(
            "other_log",
            f"{others:,} events that were sent to another log are not left out: this system has a log of its"
            " own",
            others,
        )
