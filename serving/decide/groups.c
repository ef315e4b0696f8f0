/* One variant of a group in a slate: groups.py defines it.
 *
 * What is said of a group is stamped on its first variant: each group with an item has one of its own. */
#include "decision.h"

enum { MAX_VARIANTS = 20, MINUTE_MS = 60000, KEPT = -1 };

/* the popularity by which a variant is the most wanted: tables.share of one window alone */
static inline double wanted(const decision *d, int32_t slot) {
    int64_t w = d->plan->window_variant;
    return d->tables->popularity[(int64_t)slot * WINDOWS + w] / d->tables->maxima[w];
}

static inline int32_t first_of(const decision_items *items, int32_t slot) {
    return items->group[slot] > 0 ? items->group_firsts[items->group[slot]] : 0;
}

static inline int is_offered(const decision_items *items, int32_t slot, int64_t minute) {
    return items->until[slot] > minute && items->published[slot] <= minute;
}

/* `_most_wanted`: the most popular of a larger group that can be shown this minute, then by hash. */
static int64_t most_wanted(const decision *d, int32_t first, int64_t minute, int32_t *out) {
    const decision_items *items = d->items;
    double highest[MAX_VARIANTS];         /* falling */
    int64_t n = 0, above = 0, brought = 0;
    for (int32_t slot = first; slot; slot = items->next_variant[slot]) {
        if (!is_offered(items, slot, minute)) continue;
        double share = wanted(d, slot);
        int64_t at = n < MAX_VARIANTS ? n : MAX_VARIANTS - 1;
        n++;
        if (n > MAX_VARIANTS && highest[at] >= share) continue;
        for (; at && highest[at - 1] < share; at--) highest[at] = highest[at - 1];
        highest[at] = share;
    }
    if (n <= MAX_VARIANTS) {
        for (int32_t slot = first; slot; slot = items->next_variant[slot])
            if (is_offered(items, slot, minute)) out[brought++] = slot;
        return brought;
    }
    double cut = highest[MAX_VARIANTS - 1];
    while (above < MAX_VARIANTS && highest[above] > cut) above++;
    int64_t at_cut = above;
    for (int32_t slot = first; slot && (brought < above || at_cut < MAX_VARIANTS); slot = items->next_variant[slot]) {
        if (!is_offered(items, slot, minute)) continue;
        double share = wanted(d, slot);
        if (share > cut) out[brought++] = slot;
        else if (share == cut && at_cut < MAX_VARIANTS) out[at_cut++] = slot;
    }
    return MAX_VARIANTS;
}

/* `variants` of the entries: into entry_slot behind them, where there is room. How many they are at most: where
 * that is more than there is room for, nothing is written. */
int64_t groups_variants(decision *d) {
    const decision_items *items = d->items;
    if (!items->groups) return 0;
    decision_stamps *last = &d->latest;    /* by group: its last entry */
    int64_t n = 0, bound = 0, brought = 0;
    for (int64_t i = 0; i < d->n_entries; i++) {
        int32_t first = first_of(items, d->entry_slot[i]);
        if (!first) continue;
        if (!stamped(last, d->epoch, first)) {
            int32_t size = items->group_sizes[items->group[first]];
            bound += size > MAX_VARIANTS ? MAX_VARIANTS : size;
        }
        stamp(last, d->epoch, first, (int32_t)i);
    }
    if (d->n_entries + bound > d->entry_room) return bound;
    int32_t *members = d->entry_number, *out = d->entry_slot + d->n_entries;
    int64_t minute = d->ask->now - (d->ask->now % MINUTE_MS + MINUTE_MS) % MINUTE_MS;
    for (int64_t i = 0; i < d->n_entries; i++) {
        int32_t first = first_of(items, d->entry_slot[i]);
        if (!first || last->value[first] != i) continue;
        if (items->group_sizes[items->group[first]] > MAX_VARIANTS) brought += most_wanted(d, first, minute, out + brought);
        else members[n++] = first;
    }
    while (n) {                           /* the first of each group, then the second of each that has one, and so on */
        int64_t more = 0;
        for (int64_t i = 0; i < n; i++) {
            int32_t slot = members[i], next = items->next_variant[slot];
            out[brought++] = slot;
            if (next) members[more++] = next;
        }
        n = more;
    }
    return brought;
}

/* Whether the candidate at a is more wanted than that at b. */
static inline int is_more_wanted(const decision *d, int32_t a, int32_t b) {
    double of_a = wanted(d, d->slot[a]), of_b = wanted(d, d->slot[b]);
    return of_a != of_b ? of_a > of_b : d->items->hash[d->slot[a]] < d->items->hash[d->slot[b]];
}

/* `most_wanted` among these candidates: stamps the number of each group's winner. */
static int stamp_winners(const decision *d, decision_stamps *winner, const int32_t *numbers, int64_t n) {
    int some = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t first = first_of(d->items, d->slot[numbers[i]]);
        if (!first) continue;
        some = 1;
        if (!stamped(winner, d->epoch, first) || is_more_wanted(d, numbers[i], winner->value[first]))
            stamp(winner, d->epoch, first, numbers[i]);
    }
    return some;
}

/* Of these candidates' groups nothing is stamped any more. */
static void unstamp(const decision *d, decision_stamps *winner, const int32_t *numbers, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        int32_t first = first_of(d->items, d->slot[numbers ? numbers[i] : i]);
        if (first) winner->epoch[first] = d->epoch - 1;
    }
}

static int32_t chosen_for(const decision *d, const decision_stamps *winner, int32_t number) {
    int32_t first = first_of(d->items, d->slot[number]);
    return first && stamped(winner, d->epoch, first) ? winner->value[first] : number;
}

/* Pool.merged: what the sources brought is the chosen ones'. */
static void merge(decision *d) {
    memcpy(d->entry_brought, d->entry_number, (size_t)d->n_entries * sizeof *d->entry_number);
    memcpy(d->brought, d->bits, (size_t)d->n * sizeof *d->bits);
    if (!d->has_chosen) return;
    memset(d->bits, 0, (size_t)d->n * sizeof *d->bits);
    for (int64_t s = 0; s < d->plan->n_sources; s++) {
        d->by_source[s] = 0;
        for (int64_t i = d->source_begin[s]; i < d->source_begin[s + 1]; i++) {
            int32_t number = d->entry_number[i] = d->chosen[d->entry_number[i]];
            d->by_source[s] += !(d->bits[number] >> s & 1);
            d->bits[number] |= UINT32_C(1) << s;
        }
    }
}

/* Rules have run: what was blocked is not asked for again, so that winners are stamped there. */
void groups_choose(decision *d) {
    const decision_items *items = d->items;
    d->has_chosen = d->n_passed_over = 0;
    for (int64_t i = 0; items->groups && i < d->n && !d->has_chosen; i++) d->has_chosen = items->group[d->slot[i]] > 0;
    if (d->has_chosen) {
        unstamp(d, &d->blocked, NULL, d->n);
        stamp_winners(d, &d->blocked, d->kept, d->n_kept);
        for (int64_t i = 0; i < d->n; i++) d->chosen[i] = chosen_for(d, &d->blocked, (int32_t)i);
        int64_t stay = 0;
        for (int64_t i = 0; i < d->n_kept; i++) {
            int32_t number = d->kept[i];
            if (d->chosen[number] == number) d->kept[stay++] = number;
            else d->passed_over[d->n_passed_over++] = number, d->removed_by[number] = PASSED_OVER;
        }
        d->n_kept = stay;
    }
    merge(d);
}

int64_t groups_spare(const decision *d, int32_t *numbers, int64_t n) {
    decision_stamps winner = d->blocked;
    if (!d->items->groups) return n;
    unstamp(d, &winner, numbers, n);
    if (!stamp_winners(d, &winner, numbers, n)) return n;
    for (int64_t i = 0; i < d->n_kept; i++) {
        int32_t first = first_of(d->items, d->slot[d->kept[i]]);
        if (first) stamp(&winner, d->epoch, first, KEPT);
    }
    int64_t stay = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t number = numbers[i];
        if (chosen_for(d, &winner, number) == number) numbers[stay++] = number;
    }
    return stay;
}
