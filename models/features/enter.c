/* models/features/enter.py, ring.py and disordered.py: the list of recent actions, one action after the
   other, and what depends on its state at each */
#include "act.h"

#define DAILY_CAP 3

static void entry_of(const struct act *a, uint32_t i, uint8_t *entry) {
    int64_t time = a->time[i];
    store64(entry, a->item[i]);
    store32(entry + 8, (uint32_t)(time / 1000));
    store16(entry + 12, (uint16_t)(time % 1000));
    store32(entry + 14, a->category[i]);
    store32(entry + 18, a->identity[i]);
    entry[22] = a->action[i];
    entry[23] = a->in_order[i] ? IN_SESSION : 0;
}

/* Fills `met`, `repeats` and `verdict` of action i. */
static void judge(struct act *a, const struct list *list, const struct days *days, uint32_t i,
                  int place) {
    uint64_t item = a->item[i];
    int64_t day = days->day[place];
    int met = 0, repeats = 0;
    for (int slot = 0; slot < list->size; slot++) {
        const uint8_t *entry = list->ring + slot * ENTRY_SIZE;
        if (entry_item(entry) != item) continue;
        met = 1;
        repeats += entry_time(entry) / DAY_MS == day;
    }
    repeats += days_count(days, item, place);
    a->met[i] = met && !a->late[i];
    a->repeats[i] = (uint8_t)repeats;
    a->verdict[i] = days_full(days, place)  ? OVER_DAILY_LIMIT
                    : repeats >= DAILY_CAP ? OVER_DAILY_CAP
                                           : FACT;
}

static void evict(struct act *a, struct days *days, uint32_t i, const uint8_t *entry) {
    int64_t e = a->made.evicted_n++;
    a->evicted_at[e] = i;
    memcpy(a->evicted + e * ENTRY_SIZE, entry, ENTRY_SIZE);
    days_keep(days, a->evicted + e * ENTRY_SIZE);
}

/* Enters action i at its place by time; what is newer moves on by a slot, and of a full list the oldest
   leaves. */
static void enter(struct act *a, struct list *list, struct days *days, uint32_t i, const uint8_t *entry) {
    uint8_t oldest[ENTRY_SIZE];
    int full = list->size == RING_SIZE, place = 0;
    while (place < list->size && entry_after(aged(list, place), entry)) place++;
    memcpy(oldest, aged(list, -1), ENTRY_SIZE);
    for (int age = 0; age < place && age < RING_SIZE - 1; age++)
        memcpy(aged(list, age - 1), aged(list, age), ENTRY_SIZE);
    if (place < RING_SIZE) {
        memcpy(aged(list, place - 1), entry, ENTRY_SIZE);
    } else { /* the entry is older than a full list, whose oldest goes a slot on like all others */
        memcpy(aged(list, RING_SIZE - 2), oldest, ENTRY_SIZE);
        memcpy(oldest, entry, ENTRY_SIZE);
    }
    list->newest = list->newest + 1 == RING_SIZE ? 0 : list->newest + 1;
    list->n++;
    list->size += !full;
    if (full) evict(a, days, i, oldest);
}

/* Fields: n, ring. */
KERNEL void fold_ring(void *act, int64_t who, const int32_t *at) {
    struct act *a = act;
    if (!a->recent_changed[who]) return;
    uint8_t *row = row_of(a, who), entry[ENTRY_SIZE];
    struct list list = list_of(a, row);
    struct days days;
    days_begin(&days, a, who);
    for (uint32_t k = a->start[who]; k < a->start[who + 1]; k++) {
        uint32_t i = a->order[k];
        if (!a->recent[a->action[i]]) continue;
        int place = days_enter(&days, a->time[i]);
        judge(a, &list, &days, i, place);
        entry_of(a, i, entry);
        if (a->verdict[i] == FACT) {
            entry[23] |= COUNTED;
            if (!a->late[i]) window_pair(a, &list, i, entry);
        }
        if (a->late[i]) evict(a, &days, i, entry);
        else enter(a, &list, &days, i, entry);
    }
    store32(row + at[0], (uint32_t)list.n);
    days_end(&days, a, who);
}
