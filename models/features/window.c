/* models/features/window.py */
#include "act.h"

struct partners { uint64_t *item; uint8_t *lag; int n; };

static void add(struct partners *found, const struct act *a, const uint8_t *other, uint64_t item,
                int lag, int within) {
    uint64_t it = entry_item(other);
    if (it == item || it == 0 || !a->informative[entry_action(other)]) return;
    for (int k = 0; k < found->n; k++)
        if (found->item[k] == it) return;
    found->item[found->n] = it;
    found->lag[found->n++] = (uint8_t)(lag | (within ? SAME_SESSION : 0));
}

/* Of the actions in order, the newest 16. */
static void newest(struct partners *found, const struct act *a, const struct list *list, uint32_t i) {
    int64_t reach = a->session_rank[i];
    int lag = 0;
    for (int age = 0; age < list->size && lag < MAX_LAG && found->n < MAX_PARTNERS; age++) {
        const uint8_t *other = aged(list, age);
        if (!(entry_flags(other) & IN_SESSION)) continue;
        lag++;
        add(found, a, other, a->item[i], lag, lag <= reach);
    }
}

/* Of the entries before its place, the nearest 16; up to a gap they are of its session. */
static void by_time(struct partners *found, const struct act *a, const struct list *list, uint32_t i,
                    const uint8_t *entry) {
    int age = 0, within = 1;
    while (age < list->size && entry_after(aged(list, age), entry)) age++;
    int64_t time = entry_time(entry);
    for (int lag = 1; lag <= MAX_LAG && age < list->size && found->n < MAX_PARTNERS; lag++, age++) {
        const uint8_t *other = aged(list, age);
        within = within && time - entry_time(other) <= GAP_MS;
        add(found, a, other, a->item[i], lag, within);
        time = entry_time(other);
    }
}

void window_pair(struct act *a, const struct list *list, uint32_t i, const uint8_t *entry) {
    if (!a->informative[a->action[i]]) return;
    struct partners found = {a->partner_of + a->found_n, a->lag_of + a->found_n, 0};
    a->pair_start[i] = (uint32_t)a->found_n;
    if (a->in_order[i]) newest(&found, a, list, i);
    else by_time(&found, a, list, i, entry);
    a->pairs_of[i] = (uint8_t)found.n;
    a->found_n += found.n;
}
