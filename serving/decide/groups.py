"""One variant of a group in a slate: the most wanted one that may be shown.

`variants` brings the others of the groups in a pool; `choose` keeps one of each group once the rules have
run. Both do nothing while no item has a group.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from serving.decide.case import MINUTE_MS, Case
from serving.decide.pool import VARIANT_MIX, Places, Pool
from serving.decide.results import Explain, Shown
from serving.world.catalogue import ItemTable, Mask, Slots
from serving.world.tables import Tables

MAX_VARIANTS: Final = 20
"""Of a larger group so many are brought: the most wanted of those that can be shown this minute. Sources may
bring others."""
_NO_SLOTS: Final[Slots] = np.empty(0, np.int32)
_Key = tuple[str, int, int]
# the most wanted of the larger groups, because each takes a pass over its group
_MOST_WANTED: Final[WeakKeyDictionary[Tables, tuple[_Key, dict[int, Slots]]]] = WeakKeyDictionary()


class Choice(NamedTuple):
    """`pool`: what the sources brought of a group is the chosen variant's. `kept`: numbers of the candidates
    without a group and of the chosen ones, ascending. `passed_over`: those of the other eligible variants."""

    pool: Pool
    kept: Places
    passed_over: Places


def variants(case: Case, slots: Slots) -> Slots:
    """The variants of the groups of `slots`, in an order that depends on `slots` and hashes alone."""
    items = case.world.items
    if not items.groups:
        return _NO_SLOTS
    numbers = items.group[slots]
    numbers = numbers[numbers > 0]
    # one entry a group, without a sort, as `sources` does it for items
    places = np.arange(len(numbers), dtype=np.int32)
    last = np.empty(len(items.groups.texts), np.int32)
    last[numbers] = places
    numbers = numbers[last[numbers] == places]
    large = items.groups.sizes[numbers] > MAX_VARIANTS
    found = [_most_wanted(case, number) for number in numbers[large].tolist()]
    members = items.groups.firsts[numbers[~large]]
    members = members[members > 0]  # an item that was dropped has its group still
    while len(members):  # the first of each group, then the second of each that has one, and so on
        found.append(members)
        members = items.next_variant[members]
        members = members[members > 0]
    return np.concatenate(found) if found else _NO_SLOTS


def choose(case: Case, pool: Pool, kept: Places) -> Choice:
    """One candidate of each group among those `kept` by the rules. The values of its other candidates,
    eligible or not, add to its own."""
    items = case.world.items
    if not items.groups or not items.group[pool.slots].any():
        return Choice(pool, kept, kept[:0])
    able = np.zeros(len(pool.slots), np.bool_)
    able[kept] = True
    chosen = most_wanted(case, pool.slots, able)
    is_chosen = chosen[kept] == kept
    return Choice(pool.merged(chosen), kept[is_chosen], kept[~is_chosen])


def spare(case: Case, pool: Pool, kept: Places, numbers: Places) -> Places:
    """Which of the candidates `numbers`, in their order, may fill a slate of those `kept`: of each group the
    most wanted, and none of a group of which one is kept."""
    items, slots = case.world.items, pool.slots[numbers]
    if not items.groups or not items.group[slots].any():
        return numbers
    chosen = most_wanted(case, slots, np.ones(len(slots), np.bool_))
    groups = items.group[slots]
    is_kept = (groups > 0) & np.isin(groups, items.group[pool.slots[kept]])
    found: Places = numbers[(chosen == np.arange(len(slots))) & ~is_kept]
    return found


def with_groups(
    case: Case,
    pool: Pool,
    passed_over: Places,
    shown: list[Shown],
    candidates: Places,
    explain: Explain,
) -> list[Shown]:
    """The items of a slate, which are `candidates`, with their groups. Of one with a group: whether no source
    brought this variant and, with explain=full, which others are `passed_over`."""
    items, chosen = case.world.items, pool.chosen
    if chosen is None:
        return shown
    found = []
    for item, place in zip(shown, candidates.tolist(), strict=True):
        if number := int(items.group[item.slot]):
            others: tuple[str, ...] = ()
            if explain == "full":
                own = pool.slots[passed_over[chosen[passed_over] == place]]
                others = tuple([items.ids[slot] for slot in own.tolist()])
            item = item._replace(
                group=items.groups.texts[number],
                swapped=item.swapped or pool.is_substitute(place),
                variants=others,
            )
        found.append(item)
    return found


def same_thing(items: ItemTable, slots: Slots, slot: int) -> Mask:
    """(n,) which of `slots` are the item at `slot` or a variant of it; none where it is 0."""
    group = items.group[slot]
    if group:
        return np.asarray(items.group[slots] == group)
    return np.asarray(slots == slot) & (slot > 0)


def most_wanted(case: Case, slots: Slots, able: Mask) -> Places:
    """(n,) for each of `slots`, which are distinct, the place of the most popular of its group that is
    `able`, of equal ones that with the least hash; its own where there is no such."""
    items = case.world.items
    chosen, numbers = np.arange(len(slots)), items.group[slots]
    grouped = np.flatnonzero(numbers)
    ours = grouped[able[grouped]]
    wanted, of = case.world.tables.share(slots[ours], VARIANT_MIX), numbers[ours]
    # by number of the group, of those that are here
    highest, winners = np.empty(len(items.groups.texts)), np.empty(len(items.groups.texts), np.intp)
    highest[of], winners[numbers[grouped]] = -1.0, -1
    np.maximum.at(highest, of, wanted)
    best = ours[wanted == highest[of]]
    best = best[np.argsort(items.hash[slots[best]])[::-1]]
    winners[numbers[best]] = best  # the last one written wins: the least hash
    found = winners[numbers[grouped]]
    chosen[grouped] = np.where(found >= 0, found, grouped)
    return chosen


def _most_wanted(case: Case, number: int) -> Slots:
    """The `MAX_VARIANTS` most popular of a group that can be shown this minute, then by hash."""
    items, tables = case.world.items, case.world.tables
    minute = case.ask.now // MINUTE_MS * MINUTE_MS
    key = (tables.version, items.revision, minute)
    found = _MOST_WANTED.get(tables)
    if found is None or found[0] != key:
        found = _MOST_WANTED[tables] = (key, {})
    if number not in found[1]:
        slots = items.groups.slots(number)
        slots = slots[(items.until[slots] > minute) & (items.published[slots] <= minute)]
        if len(slots) > MAX_VARIANTS:
            slots = _highest(tables.share(slots, VARIANT_MIX), slots)
        found[1][number] = slots
    return found[1][number]


def _highest(wanted: NDArray[np.float64], slots: Slots) -> Slots:
    """`MAX_VARIANTS` of `slots`, which are in the order of hashes: the highest, of equal ones the first."""
    cut = np.partition(wanted, -MAX_VARIANTS)[-MAX_VARIANTS]
    above, at_cut = np.flatnonzero(wanted > cut), np.flatnonzero(wanted == cut)
    highest: Slots = slots[np.concatenate([above, at_cut[: MAX_VARIANTS - len(above)]])]
    return highest
