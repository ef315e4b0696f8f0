"""What the slow definitions make of a log of one partition, with whom each action counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.outcomes.join import REACH
from models.outcomes.touched import Reach
from models.reference import plain
from models.reference.dedupe import Name, name_of
from models.reference.outcome_records import attributes, concerns
from models.reference.outcomes import ReferenceOutcomes
from models.reference.recents import facts
from schemas import events
from schemas.events import Action, Served


def by_viewer(
    log: Iterable[tuple[int, events.Event]], reach: Reach = REACH
) -> dict[str, ReferenceOutcomes]:
    """(offset, event) of one partition in order -> each person's slates, outcomes and purchases."""
    taken: set[Name] = set()
    kept: list[tuple[int, Served | Action, bool]] = []
    acts: dict[str, list[tuple[int, Action]]] = {}
    for offset, e in log:
        if not isinstance(e, Served | Action):
            continue
        name = name_of(e)
        repeated = name in taken
        taken.add(name)
        if isinstance(e, Action) and not repeated:
            acts.setdefault(e.person, []).append((offset, e))
        if concerns(e) and (not repeated or attributes(e)):
            kept.append((offset, e, repeated))
    counted = {offset for mine in acts.values() for offset in _counted(mine)}
    found: dict[str, ReferenceOutcomes] = {}
    for offset, e, repeated in kept:
        mine = found.setdefault(e.person, ReferenceOutcomes(reach))
        mine.add(offset, e, offset in counted, repeated)
    return found


def _counted(acts: Sequence[tuple[int, Action]]) -> set[int]:
    """Offsets of the actions of one person that make a fact."""
    return {e.offset for e, _ in facts([plain.event(offset, e) for offset, e in acts])}
