/* Where candidates come from: sources.py defines the sources. A source is a function and a line of SOURCES. */
#include "decision.h"

enum { CANDIDATES_PER_SEARCH = 100, CONTENT = 0, SPACE = 1 };
enum { BEGIN, SEARCHED, HANDED };         /* of source_step: what was returned last, and is there now */

/* Writes an entry of a source; gives the place of the next. */
static inline int64_t bring(decision *d, int64_t at, int32_t slot, double value, int32_t by) {
    d->entry_slot[at] = slot, d->entry_value[at] = value, d->entry_by[at] = by;
    return at + 1;
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t covisit_most(const decision *d, int64_t s) {
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_interest; i++) n += d->tables->lengths[d->interest[i]];
    return n;
}

static int64_t covisit(decision *d, int64_t s, int64_t at) {
    const decision_tables *t = d->tables;
    for (int64_t i = 0; i < d->n_interest; i++) {
        int64_t start = t->starts[d->interest[i]], n = t->lengths[d->interest[i]];
        double weight = d->interest_weight[i];
        for (int64_t k = start; k < start + n; k++) at = bring(d, at, t->slots[k], (double)t->scores[k] * weight, (int32_t)i);
    }
    return at;
}

static int64_t nearest(decision *d, int64_t at, int which) {
    if (!(d->searches >> which & 1)) return at;
    for (int64_t i = 0; i < d->n_found[which]; i++)
        at = bring(d, at, d->found_slots[which][i], d->found_similarity[which][i], 0);
    return at;
}

static int64_t vector_most(const decision *d, int64_t s) { return d->searches >> SPACE & 1 ? d->n_found[SPACE] : 0; }
static int64_t vector(decision *d, int64_t s, int64_t at) { return nearest(d, at, SPACE); }
static int64_t content_most(const decision *d, int64_t s) { return d->searches >> CONTENT & 1 ? d->n_found[CONTENT] : 0; }
static int64_t content(decision *d, int64_t s, int64_t at) { return nearest(d, at, CONTENT); }

static int64_t popular_most(const decision *d, int64_t s) {
    int64_t category = d->ask->category;
    if (category < 0 && category != NO_CATEGORY) return 0;
    if (!d->ask->category_slots) return least(d->deeper, d->plan->ordered[s][d->stranger]);
    return least(d->deeper, d->ask->n_category_slots);
}

/* The heap's top is its greatest number: sinks the one at i. */
static void sink(int32_t *heap, int64_t n, int64_t i) {
    int32_t x = heap[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1] > heap[child]) child++;
        if (heap[child] <= x) break;
        heap[i] = heap[child];
    }
    heap[i] = x;
}

/* Tables.most_popular of a small category: the lowest ranks, ascending, in place of the slots. */
static int64_t popular_of_small(decision *d, int64_t s, int64_t at) {
    const decision_ask *ask = d->ask;
    const int32_t *rank = ask->category_rank[s][d->stranger], *order = d->plan->order[s][d->stranger];
    int32_t *heap = d->entry_slot + at;
    int64_t most = popular_most(d, s), n = 0;
    for (int64_t i = 0; i < ask->n_category_slots && most; i++) {
        int32_t slot = ask->category_slots[i];
        if (ask->filter && !ask->filter[slot]) continue;
        if (n < most) {
            heap[n++] = rank[slot];
            if (n == most)
                for (int64_t k = n / 2; k-- > 0;) sink(heap, n, k);
        } else if (rank[slot] < heap[0]) {
            heap[0] = rank[slot];
            sink(heap, n, 0);
        }
    }
    if (n < most)
        for (int64_t k = n / 2; k-- > 0;) sink(heap, n, k);
    for (int64_t k = n - 1; k > 0; k--) {
        int32_t greatest = heap[0];
        heap[0] = heap[k];
        sink(heap, k, 0);
        heap[k] = greatest;
    }
    for (int64_t k = 0; k < n; k++, at++) bring(d, at, order[heap[k]], 0, 0);
    return at;
}

/* The first of the order that are of the category and pass the filter. */
static int64_t popular(decision *d, int64_t s, int64_t at) {
    const decision_ask *ask = d->ask;
    if (ask->category_slots) return popular_of_small(d, s, at);
    const int32_t *order = d->plan->order[s][d->stranger];
    const int64_t end = at + popular_most(d, s), ordered = d->plan->ordered[s][d->stranger];
    for (int64_t i = 0; i < ordered && at < end; i++) {
        int32_t slot = order[i];
        if (ask->filter && !ask->filter[slot]) continue;
        if (ask->category != NO_CATEGORY && !items_in_category(d->items, slot, ask->category)) continue;
        at = bring(d, at, slot, 0, 0);
    }
    return at;
}

/* The first of `ages`, which ascend, that is at least `age`. */
static int64_t first_at_least(const decision_tables *t, int64_t age) {
    int64_t first = 0, n = t->n_newest;
    while (n > 0) {
        int64_t half = n / 2;
        if (t->ages[first + half] < age) first += half + 1, n -= half + 1;
        else n = half;
    }
    return first;
}

static int64_t fresh_most(const decision *d, int64_t s) { return least(d->deeper, d->tables->n_newest); }

static int64_t fresh(decision *d, int64_t s, int64_t at) {
    int64_t i = first_at_least(d->tables, -d->ask->now);
    int64_t end = least(first_at_least(d->tables, d->plan->fresh_source_ms - d->ask->now), i + fresh_most(d, s));
    for (; i < end; i++) at = bring(d, at, d->tables->newest[i], 0, 0);
    return at;
}

static int64_t explore_most(const decision *d, int64_t s) { return least(d->deeper, d->tables->n_least_served); }

static int64_t explore(decision *d, int64_t s, int64_t at) {
    int64_t n = explore_most(d, s);
    for (int64_t i = 0; i < n; i++) at = bring(d, at, d->tables->least_served[i], 0, 0);
    return at;
}

/* `s`: place of the source in the plan. `most`: so many entries it brings at most; `retrieve` writes them from
 * place `at` on, and gives the place behind them. */
static const struct {
    const char *name;
    int64_t (*most)(const decision *d, int64_t s);
    int64_t (*retrieve)(decision *d, int64_t s, int64_t at);
} SOURCES[] = {
    {"covisit", covisit_most, covisit},
    {"vector", vector_most, vector},
    {"content", content_most, content},
    {"popular", popular_most, popular},
    {"popular_1h", popular_most, popular},
    {"popular_24h", popular_most, popular},
    {"popular_7d", popular_most, popular},
    {"popular_90d", popular_most, popular},
    {"fresh", fresh_most, fresh},
    {"explore", explore_most, explore},
};

/* The code of a source by its name; IN_PYTHON where it has no entry here. */
KERNEL int decision_source(const char *name) {
    for (size_t i = 0; i < sizeof SOURCES / sizeof *SOURCES; i++)
        if (!strcmp(SOURCES[i].name, name)) return (int)i;
    return IN_PYTHON;
}

/* From here on no slot is stamped. */
static void next_epoch(decision *d) {
    if (d->epoch == UINT32_MAX) {
        size_t size = (size_t)d->slot_room * sizeof *d->pool_at.epoch;
        memset(d->pool_at.epoch, 0, size), memset(d->blocked.epoch, 0, size), memset(d->latest.epoch, 0, size);
        d->epoch = 0;
    }
    d->epoch++;
}

/* Which searches the sources ask for, where they are not there from a retrieval before. */
static int needs_search(decision *d) {
    int64_t k = least(d->deeper, CANDIDATES_PER_SEARCH);
    if (k == d->search_k) return 0;
    d->search_k = k, d->searches = 0, d->n_found[CONTENT] = d->n_found[SPACE] = 0;
    if (d->plan->content_at >= 0 && d->n_interest) d->searches |= 1 << CONTENT;
    if (d->plan->vector_at >= 0 && d->has_vector) d->searches |= 1 << SPACE;
    return d->searches != 0;
}

static int needs_sources(const decision *d) {
    for (int64_t s = 0; s < d->plan->n_sources; s++)
        if (d->plan->source[s] == IN_PYTHON) return 1;
    return 0;
}

static int64_t most_entries(const decision *d) {
    int64_t n = 0;
    for (int64_t s = 0; s < d->plan->n_sources; s++) {
        int32_t code = d->plan->source[s];
        n += code == IN_PYTHON ? d->n_handed[s] : SOURCES[code].most(d, s);
    }
    return n;
}

static void take_entries(decision *d) {
    int64_t at = 0;
    for (int64_t s = 0; s < d->plan->n_sources; s++) {
        int32_t code = d->plan->source[s];
        d->source_begin[s] = at;
        if (code != IN_PYTHON) {
            at = SOURCES[code].retrieve(d, s, at);
            continue;
        }
        for (int64_t i = 0; i < d->n_handed[s]; i++)
            at = bring(d, at, d->handed_slots[s][i], d->handed_values[s][i], (int32_t)d->handed_entries[s][i]);
    }
    d->source_begin[d->plan->n_sources] = d->n_entries = at;
}

/* `_distinct`: the last entry of a slot stands for it, of sources or of variants. */
static void number_candidates(decision *d, int64_t entries) {
    decision_stamps *at = &d->pool_at;
    const uint32_t epoch = d->epoch;
    for (int64_t i = 0; i < entries; i++) stamp(at, epoch, d->entry_slot[i], (int32_t)i);
    int64_t n = 0;
    for (int64_t i = 0; i < entries; i++) {
        int32_t slot = d->entry_slot[i];
        if (at->value[slot] != i) continue;
        at->value[slot] = (int32_t)n;     /* no entry of this slot follows */
        d->slot[n] = slot, d->bits[n] = 0, n++;
    }
    d->n = n;
    for (int64_t s = 0; s < d->plan->n_sources; s++) {
        int64_t count = 0;
        for (int64_t i = d->source_begin[s]; i < d->source_begin[s + 1]; i++) {
            int32_t number = d->entry_number[i] = at->value[d->entry_slot[i]];
            count += !(d->bits[number] >> s & 1);
            d->bits[number] |= UINT32_C(1) << s;
        }
        d->by_source[s] = count;
    }
}

int sources_retrieve(decision *d) {
    if (d->source_step == BEGIN) {
        d->source_step = SEARCHED;
        if (needs_search(d)) return NEEDS_SEARCH;
    }
    if (d->source_step == SEARCHED) {
        d->source_step = HANDED;
        if (needs_sources(d)) return NEEDS_SOURCES;
    }
    d->room_needed = most_entries(d);
    if (d->room_needed > d->entry_room) return NEEDS_ROOM;
    take_entries(d);
    next_epoch(d);
    int64_t variants = groups_variants(d);
    if (d->n_entries + variants > d->entry_room) {
        d->room_needed = d->n_entries + variants;
        return NEEDS_ROOM;
    }
    next_epoch(d);
    number_candidates(d, d->n_entries + variants);
    d->source_step = BEGIN, d->has_chosen = 0;
    return DONE;
}
