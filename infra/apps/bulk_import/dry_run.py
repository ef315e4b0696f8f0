"""`freshet import --dry-run`: what would happen, against the memory and the items of the system that runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager

from infra.apps.bulk_import import memory, system
from infra.apps.bulk_import.asked import Asked, Found, find_system
from infra.apps.bulk_import.findings import Show
from infra.apps.bulk_import.memory import Memory
from infra.apps.bulk_import.outcome import Outcome
from infra.apps.bulk_import.program import Bar, BulkImport
from infra.apps.bulk_import.rehearsal import Edge, Rehearsal
from infra.apps.bulk_import.run import warn_of_other_logs, warn_of_unknown_items
from infra.client import history
from infra.client.senders import NotSent


def rehearse(
    asked: Asked,
    outcomes: dict[str, Outcome],
    bar: Bar,
    show: Show,
    environment: Mapping[str, str],
) -> None:
    """Sends and writes nothing; `outcomes` gets what there is to say. Without a system that runs, its
    settings are those of the environment, and what was sent before is not known.

    Errors: `BadSetting`, `NotMovieLens`, `NotRemembered`.
    """
    job = asked.job()
    found = find_system(asked, environment, needed=False)
    log = _log(found)
    edge = Edge(found.settings, time.time_ns() // 1_000_000)
    with _memory(asked, found, log) as remembered:
        BulkImport(
            job,
            remembered,
            lambda path, taken, stop: Rehearsal(edge, path, taken, stop),
            bar,
            show,
            outcomes,
        ).run()
    if events := outcomes.get("events"):
        events.actions = edge.actions
        _ask_about_items(events, edge, found, log is not None)
        if log is None:
            events.findings.warn("no_system", "no system answers, so what it has is not known", 0)
        else:
            warn_of_unknown_items(events)
            warn_of_other_logs(events, memory.other_logs(found.folder, asked.source, log))


def _memory(asked: Asked, found: Found, log: str | None) -> AbstractContextManager[Memory]:
    if log is None:
        return memory.forgetful()
    return memory.opened(found.folder, asked.source, log, read_only=True)


def _log(found: Found) -> str | None:
    """The name of the system's log; None where no system answers."""
    if not found.target.url:
        return None
    try:
        history.check_answers(found.target.url)
        return system.log_name(found.target)
    except NotSent:
        return None


def _ask_about_items(outcome: Outcome, edge: Edge, found: Found, answers: bool) -> None:
    """Takes events on items that the system has from those on unknown items, as far as it can be asked."""
    asked = [item_id for item_id, _ in edge.unknown.most_common(system.MAX_ASKED)]
    held = system.held_items(found.target, asked) if answers and asked else None
    if held is not None:
        outcome.sent.unknown_items -= sum(edge.unknown[item_id] for item_id in held)
    open_ids = len(edge.unknown) - (len(asked) if held is not None else 0)
    if open_ids:
        outcome.findings.warn(
            "items_not_asked",
            f"whether the system has {open_ids:,} of the items that these files lack is not known",
            open_ids,
        )
