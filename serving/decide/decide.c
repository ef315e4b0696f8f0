/* One decision, a stage after the other: decide.py defines it, and decision.h what the stages share.
 *
 * `decision_run` goes on where it stopped: a stage that needs something of Python returns it, and is called again. */
#include <time.h>
#include "decision.h"

enum { DEPTH_FACTOR = 50 };
/* of a request: what is to be done next */
enum { OPEN, RETRIEVE, ELIGIBLE, SHORTLIST, SCORE, RANK, ARRANGE, MORE, AGAIN, SCORE_FILLED, RANK_FILLED, EXTEND, EXPLAIN, END };
/* of stage_ns */
enum { AT_RETRIEVE, AT_ELIGIBLE, AT_SCORE, AT_RANK, AT_ARRANGE, AT_EXPLAIN };

static int64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void ends(decision *d, int stage) {
    int64_t now = clock_ns();
    d->stage_ns[stage] += now - d->clock_ns;
    d->clock_ns = now;
}

/* ---- the workspace ---- */

/* The bytes of all arrays of the workspace but the stamps; where there is a block, they are carved out of it. Every
   array begins at a multiple of 16 bytes. */
static int64_t carve(decision *d, uint8_t *block, int64_t entries, int64_t places) {
    int64_t at = 0, most = entries > places ? entries : places;
#define TAKE(field, n)                                                   \
    do {                                                                 \
        if (block) d->field = (void *)(block + at);                      \
        at = (at + (int64_t)(n) * (int64_t)sizeof *d->field + 15) & ~15LL; \
    } while (0)
    TAKE(entry_slot, entries);
    TAKE(entry_number, entries);
    TAKE(entry_by, entries);
    TAKE(entry_brought, entries);
    TAKE(entry_value, entries);
    TAKE(slot, entries);
    TAKE(bits, entries);
    TAKE(brought, entries);
    TAKE(chosen, entries);
    TAKE(removed_by, entries);
    TAKE(kept, entries);
    TAKE(passed_over, entries);
    TAKE(mark, most);
    TAKE(covisit_sum, entries);
    TAKE(listed, entries);
    TAKE(merged_first, entries);
    TAKE(merged_next, entries);
    TAKE(number_rank, entries);
    TAKE(number_at, entries);
    TAKE(number_sum, entries);
    TAKE(keys, 2 * most);
    TAKE(scored, places);
    TAKE(total, places);
    TAKE(coarse_order, places);
    TAKE(values, places * MAX_COLUMNS);
    TAKE(rows, MAX_RANKED * MAX_COLUMNS);
    TAKE(predictions, MAX_RANKED);
    TAKE(score, places);
    TAKE(before_fatigue, places);
    TAKE(tiredness, places);
    TAKE(order, places);
    TAKE(asked, places > MAX_RANKED ? places : MAX_RANKED);
    TAKE(places, places);
    TAKE(swapped, places);
    TAKE(out_items, places * SHOWN_NUMBERS);
    TAKE(out_counts, COUNTS + MAX_SOURCES + MAX_RULES);
    TAKE(out_score, places);
    TAKE(missed, places);
    TAKE(out_rows, 2 * places * MAX_COLUMNS);
    TAKE(out_values, places * MAX_COLUMNS);
    TAKE(out_prediction, places);
    TAKE(out_predicted, places);
    TAKE(out_before, places);
    TAKE(out_tiredness, places);
#undef TAKE
    return at;
}

/* The bytes of a block for so many entries and candidates, and for so many places. */
KERNEL int64_t decision_bytes(int64_t entries, int64_t places) {
    decision none;
    return carve(&none, NULL, entries, places);
}

/* Gives the workspace a block of `decision_bytes`, aligned to 16 bytes. What it held is gone. */
KERNEL void decision_room(decision *d, uint8_t *block, int64_t entries, int64_t places) {
    carve(d, block, entries, places);
    d->entry_room = entries, d->place_room = places;
}

/* Gives the workspace stamps for so many slots: a block of `slots` * 24 zeros, aligned to 16 bytes. */
KERNEL void decision_slots(decision *d, uint8_t *block, int64_t slots) {
    decision_stamps *stamps[] = {&d->pool_at, &d->blocked, &d->latest};
    for (int i = 0; i < 3; i++, block += 8 * slots)
        stamps[i]->epoch = (uint32_t *)block, stamps[i]->value = (int32_t *)(block + 4 * slots);
    d->slot_room = slots, d->epoch = 0;
}

/* ---- the machine ---- */

static void begin(decision *d) {
    d->step = OPEN, d->deeper = d->plan->depth > 1 ? d->plan->depth : 1, d->tries = 0;
    memset(d->stage_ns, 0, sizeof d->stage_ns);
    d->category_available = d->owner_available = -1;
    d->filling = d->again = d->refilled = 0;
    /* stamps of a request before this one mean nothing: at the end of the numbers they are cleared */
    if (d->epoch > UINT32_MAX - 1024) {
        size_t size = (size_t)d->slot_room * sizeof(uint32_t);
        memset(d->pool_at.epoch, 0, size), memset(d->blocked.epoch, 0, size), memset(d->latest.epoch, 0, size);
        d->epoch = 0;
    }
    d->epoch++;
}

/* Whether `a` was seen before `b`, by the newest action; of one second the lower hash. */
static int longer_ago(const decision *d, int32_t a, int32_t b) {
    int32_t s = d->slot[a], t = d->slot[b];
    uint32_t at = stamped(&d->latest, d->epoch, s) ? (uint32_t)d->latest.value[s] : 0;
    uint32_t bt = stamped(&d->latest, d->epoch, t) ? (uint32_t)d->latest.value[t] : 0;
    return at != bt ? at < bt : d->items->hash[s] < d->items->hash[t];
}

static void sink(const decision *d, int32_t *heap, int64_t root, int64_t n) {
    for (int64_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && longer_ago(d, heap[child], heap[child + 1])) child++;
        if (!longer_ago(d, heap[root], heap[child])) return;
        int32_t swap = heap[root];
        heap[root] = heap[child], heap[child] = swap;
    }
}

static void sort_longest_ago(const decision *d, int32_t *numbers, int64_t n) {
    for (int64_t root = n / 2; root-- > 0;) sink(d, numbers, root, n);
    while (n-- > 1) {
        int32_t swap = numbers[0];
        numbers[0] = numbers[n], numbers[n] = swap;
        sink(d, numbers, 0, n);
    }
}

/* decide.py `_seen_before`, and the first part of `_filled`: whether the slate is filled. */
static int fills(decision *d) {
    int32_t *again = d->mark;
    int64_t n = 0, rule = d->plan->seen_rule;
    if (rule >= 0 && d->rule_applies[rule])
        for (int64_t i = 0; i < d->n; i++)
            if (d->removed_by[i] == 1 + rule) again[n++] = i;
    if (n) {
        sort_longest_ago(d, again, n);
        n = groups_spare(d, again, n);
    }
    int64_t missing = d->ask->count - d->n_places, filling = n < missing ? n : missing;
    if (filling <= 0) {
        d->again = n;
        return 0;
    }
    d->filling = filling, d->again = n - filling;
    d->n_kept += filling, d->removed[rule] -= filling;
    /* numbers, until the filled list is scored */
    for (int64_t i = 0; i < d->n_places; i++) d->places[i] = d->scored[d->places[i]];
    for (int64_t i = 0; i < filling; i++) d->places[d->n_places + i] = again[i];
    d->n_places += filling;
    for (int64_t i = 0; i < filling; i++) {
        int64_t at = d->k++;
        for (; at && d->scored[at - 1] > again[i]; at--) d->scored[at] = d->scored[at - 1];
        d->scored[at] = again[i];
    }
    return 1;
}

/* The places of the numbers in `places`, in a list that was scored anew. */
static void places_of_numbers(decision *d) {
    for (int64_t i = 0; i < d->n_places; i++) {
        int64_t low = 0, high = d->k;
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (d->scored[middle] < d->places[i]) low = middle + 1;
            else high = middle;
        }
        d->places[i] = low;
    }
}

static int brought_any(const decision *d, int64_t at) { return at >= 0 && d->source_begin[at + 1] > d->source_begin[at]; }

static int64_t fallback(const decision *d) {
    const decision_plan *p = d->plan;
    if (!brought_any(d, p->covisit_at) && !brought_any(d, p->vector_at)) return brought_any(d, p->content_at) ? 2 : 1;
    return d->ranker_applies && !(d->ran && d->n_ranked) && d->k > 0 ? 3 : 0;
}

/* What Python reads of the decision as a whole. */
static void count(decision *d) {
    const decision_plan *p = d->plan;
    int64_t *out = d->out_counts;
    out[COUNT_PLACES] = d->n_places, out[COUNT_FALLBACK] = d->fallback, out[COUNT_RELAXED] = d->relaxed;
    out[COUNT_EXHAUSTED] = d->exhausted, out[COUNT_KEPT] = d->n_kept, out[COUNT_SCORED] = d->k;
    out[COUNT_PASSED_OVER] = d->n_passed_over;
    out[COUNT_HELD_BY_CATEGORY] = d->held[0], out[COUNT_HELD_BY_OWNER] = d->held[1];
    out[COUNT_DRAWN] = d->drawn, out[COUNT_EXPLORED] = d->explored, out[COUNT_RAN] = d->ran;
    memcpy(out + COUNT_STAGES, d->stage_ns, sizeof d->stage_ns);
    memcpy(out + COUNTS, d->by_source, (size_t)p->n_sources * sizeof *out);
    for (int64_t i = 0; i < p->n_rules; i++) out[COUNTS + p->n_sources + i] = d->rule_applies[i] ? d->removed[i] : -1;
}

/* What the step needs, or 0 after it. */
static int takes(decision *d) {
    int need, more;
    switch (d->step) {
    case OPEN:
        if ((need = case_open(d))) return need;
        d->step = RETRIEVE;
        return 0;
    case RETRIEVE:
        if ((need = sources_retrieve(d))) return need;
        ends(d, AT_RETRIEVE);
        d->step = ELIGIBLE;
        return 0;
    case ELIGIBLE:
        if ((need = rules_eligible(d))) return need;
        ends(d, AT_ELIGIBLE);
        d->step = SHORTLIST;
        return 0;
    case SHORTLIST:
        score_shortlist(d);
        d->step = SCORE;
        return 0;
    case SCORE:
        if ((need = score_all(d))) return need;
        ends(d, AT_SCORE);
        d->step = RANK;
        return 0;
    case RANK:
        if ((need = rank_best(d))) return need;
        ends(d, AT_RANK);
        d->step = ARRANGE;
        return 0;
    case ARRANGE:
        arrange_slate(d);
        ends(d, AT_ARRANGE);
        d->step = MORE;
        return 0;
    case MORE:
        /* where all are shown, only a deeper retrieval knows whether the list ends here */
        more = d->n_places == d->n_kept ? 1 : arrange_needs_more(d);
        if (more < 0) return -more;
        if (more && d->deeper < d->items->count) {
            d->deeper *= DEPTH_FACTOR, d->tries++;
            d->step = RETRIEVE;
        } else d->step = AGAIN;
        return 0;
    case AGAIN:
        d->step = fills(d) ? SCORE_FILLED : EXPLAIN;
        return 0;
    case SCORE_FILLED:
        if ((need = score_all(d))) return need;
        d->step = RANK_FILLED;
        return 0;
    case RANK_FILLED:
        if ((need = rank_best(d))) return need;
        d->step = EXTEND;
        return 0;
    case EXTEND:
        places_of_numbers(d);
        arrange_extended(d);
        d->step = EXPLAIN;
        return 0;
    default:
        if ((need = explain_slate(d))) return need;
        d->fallback = fallback(d);
        d->exhausted = d->n_places < d->ask->count || d->n_kept + d->again == d->n_places;
        ends(d, AT_EXPLAIN);
        count(d);
        d->step = END;
        return 0;
    }
}

/* Begins a decision by a workspace with room. */
KERNEL void decision_begin(decision *d) {
    begin(d);
    d->clock_ns = clock_ns();
}

/* Goes on with it: DONE, or what is needed. What needs room has written nothing so far. */
KERNEL int decision_run(decision *d) {
    while (d->step != END) {
        int need = takes(d);
        if (need) return need;
    }
    return DONE;
}

/* Fills the request's numbers that nearly every request has, and the person's bytes, which stay where they are; all
   else is as a plain request has it. */
KERNEL void decision_asked(decision_ask *a, int64_t now, int64_t count, uint64_t seed, int64_t personal, int64_t explain,
                           int64_t in_view, int64_t category, const uint8_t *row, const uint8_t *seen, int64_t n_seen,
                           const uint8_t *impressions, int64_t n_impressions, int64_t seen_is_whole,
                           const uint8_t *vector) {
    memset(a, 0, sizeof *a);
    a->now = now, a->count = count, a->seed = seed, a->personal = personal, a->explain = explain;
    a->in_view = in_view, a->category = category, a->filter_after = INT64_MIN;
    a->row = row, a->seen = seen, a->n_seen = n_seen, a->impressions = impressions, a->n_impressions = n_impressions;
    a->seen_is_whole = seen_is_whole, a->vector = (const int16_t *)vector;
}
