/* The coarse score of each candidate and the order by it (score.py), and which candidates are scored
 * (sources.shortlist). */
#include "../../serving/decide/decision.h"

#define BLOCK 256 /* places whose totals are made together */
#define SHORT 24  /* a run of equal scores up to which places are put in order one by one */

void sort_keys(uint64_t *keys, uint64_t *other, int64_t n, int from, int to) {
    uint32_t counts[8][256];
    uint64_t *sorted = keys, *next = other;
    int first = from / 8, bytes = to / 8 - first;
    memset(counts, 0, sizeof counts[0] * (size_t)bytes);
    for (int64_t i = 0; i < n; i++)
        for (int byte = 0; byte < bytes; byte++) counts[byte][keys[i] >> (first + byte) * 8 & 255]++;
    for (int byte = 0; byte < bytes && n > 1; byte++) {
        uint32_t *count = counts[byte], sum = 0;
        int shift = (first + byte) * 8;
        if (count[sorted[0] >> shift & 255] == (uint64_t)n) continue; /* all are equal here */
        for (int i = 0; i < 256; i++) {
            uint32_t here = count[i];
            count[i] = sum;
            sum += here;
        }
        for (int64_t i = 0; i < n; i++) next[count[sorted[i] >> shift & 255]++] = sorted[i];
        uint64_t *swap = sorted;
        sorted = next;
        next = swap;
    }
    if (sorted != keys) memcpy(keys, sorted, (size_t)n * sizeof *keys);
}

/* ---- which are scored ---- */

/* ascends as the sum falls; a sum that begins at 0 is never -0 */
static uint64_t sum_falls(double sum) {
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return bits >> 63 ? bits : ~bits & INT64_MAX;
}

static uint64_t *other_keys(const decision *d) {
    return d->keys + (d->entry_room > d->place_room ? d->entry_room : d->place_room);
}

/* Pool.order: the candidates that a source brought, in number_at; how many. `found` (n,): by number, 1 + the last
 * source that brought it */
static int64_t source_order(decision *d, int64_t source, int32_t *found) {
    int64_t n = 0;
    int ordered = 1;
    uint64_t *keys = d->keys, before = 0;
    for (int64_t i = d->source_begin[source]; i < d->source_begin[source + 1]; i++) {
        int32_t number = d->entry_number[i];
        if (found[number] != source + 1) {
            found[number] = (int32_t)(source + 1);
            d->number_sum[number] = 0;
            d->number_at[n++] = (uint32_t)number;
        }
        d->number_sum[number] += d->entry_value[i];
    }
    for (int64_t i = 0; i < n; i++) {
        uint64_t sum = sum_falls(d->number_sum[d->number_at[i]]);
        ordered &= before <= sum;
        before = sum;
        keys[i] = sum << 32 | d->number_at[i];
    }
    if (ordered) return n;
    sort_keys(keys, other_keys(d), n, 32, 64); /* by the low half of the sum, then by the high one */
    for (int64_t i = 0; i < n; i++) {
        uint32_t number = (uint32_t)keys[i];
        keys[i] = sum_falls(d->number_sum[number]) >> 32 << 32 | number;
    }
    sort_keys(keys, other_keys(d), n, 32, 64);
    for (int64_t i = 0; i < n; i++) d->number_at[i] = (uint32_t)keys[i];
    return n;
}

/* by number, in number_rank: the best place that a source gives a candidate among the kept ones it brought */
static void rank_by_sources(decision *d) {
    int32_t *found = d->merged_next, *keeps = d->merged_first; /* nothing is made of them yet */
    memset(found, 0, (size_t)d->n * sizeof *found);
    memset(keeps, 0, (size_t)d->n * sizeof *keeps);
    for (int64_t i = 0; i < d->n_kept; i++) {
        keeps[d->kept[i]] = 1;
        d->number_rank[d->kept[i]] = UINT32_MAX;
    }
    for (int64_t source = 0; source < d->plan->n_sources; source++) {
        int64_t n = source_order(d, source, found), rank = 0;
        for (int64_t i = 0; i < n; i++) {
            uint32_t number = d->number_at[i];
            if (!keeps[number]) continue;
            uint64_t place = (uint64_t)rank++ * (uint64_t)d->plan->n_sources + (uint64_t)source;
            if (place < d->number_rank[number]) d->number_rank[number] = (uint32_t)place;
        }
    }
}

void score_shortlist(decision *d) {
    int64_t limit = d->place_room < MAX_SCORED ? d->place_room : MAX_SCORED;
    uint64_t last = UINT64_MAX;
    d->shared = d->score_step = d->rank_step = d->rows_step = 0;
    if (d->n_kept > limit && limit > 0) {
        rank_by_sources(d);
        for (int64_t i = 0; i < d->n_kept; i++)
            d->keys[i] = (uint64_t)d->number_rank[d->kept[i]] << 32 | (uint32_t)i;
        sort_keys(d->keys, other_keys(d), d->n_kept, 32, 64);
        last = d->keys[limit - 1] >> 32; /* no two candidates share a place and a source */
    }
    d->k = 0;
    for (int64_t i = 0; i < d->n_kept && d->k < limit; i++)
        if (last == UINT64_MAX || d->number_rank[d->kept[i]] <= last) d->scored[d->k++] = d->kept[i];
}

/* ---- scores ---- */

static void add_up(decision *d) {
    const decision_plan *plan = d->plan;
    for (int64_t begin = 0; begin < d->k; begin += BLOCK) {
        int64_t end = begin + BLOCK < d->k ? begin + BLOCK : d->k;
        double totals[BLOCK] = {0};
        for (int64_t column = 0; column < plan->n_weighted; column++) {
            const double *values = d->values + column * d->place_room;
            double weight = plan->weight[column];
            if (!d->has_values[column]) continue;
            for (int64_t i = begin; i < end; i++) totals[i - begin] += weight * values[i];
        }
        for (int64_t i = begin; i < end; i++) d->total[i] = (float)totals[i - begin];
    }
}

/* score.py `_secondary`, in number_rank: 1 + the best place of the first source of popularity, 0 of others */
static void rank_by_popularity(decision *d) {
    int64_t source = d->plan->first_popular;
    memset(d->number_rank, 0, (size_t)d->n * sizeof *d->number_rank);
    if (source < 0) return;
    for (int64_t i = d->source_begin[source + 1] - 1; i >= d->source_begin[source]; i--)
        d->number_rank[d->entry_number[i]] = (uint32_t)(1 + i - d->source_begin[source]);
}

static uint64_t secondary(const decision *d, int32_t number) {
    uint32_t rank = d->number_rank[number];
    return rank ? rank - 1 : d->items->hash[d->slot[number]] >> 33 | UINT64_C(1) << 31;
}

/* puts places whose scores are equal into the order of `secondary` */
static void order_run(const decision *d, uint64_t *keys, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t place = (uint32_t)keys[i];
        keys[i] = secondary(d, d->scored[place]) << 32 | place;
    }
    if (n > SHORT) {
        sort_keys(keys, other_keys(d), n, 32, 64);
        return;
    }
    for (int64_t i = 1; i < n; i++) { /* places ascend already, so the whole key may be compared */
        uint64_t key = keys[i];
        int64_t at = i;
        for (; at > 0 && keys[at - 1] > key; at--) keys[at] = keys[at - 1];
        keys[at] = key;
    }
}

static void order_by_score(decision *d) {
    uint64_t *keys = d->keys;
    int ranked = 0;
    for (int64_t i = 0; i < d->k; i++) keys[i] = (uint64_t)falls(d->total[i]) << 32 | (uint32_t)i;
    sort_keys(keys, other_keys(d), d->k, 32, 64);
    for (int64_t i = 0, end; i < d->k; i = end) {
        for (end = i + 1; end < d->k && keys[end] >> 32 == keys[i] >> 32;) end++;
        if (end - i < 2) continue;
        if (!ranked++) rank_by_popularity(d);
        order_run(d, keys + i, end - i);
    }
    for (int64_t i = 0; i < d->k; i++) d->coarse_order[i] = (int32_t)(uint32_t)keys[i];
}

int score_all(decision *d) {
    const decision_plan *plan = d->plan;
    int wants = 0;
    for (int64_t i = 0; i < plan->n_weighted; i++) wants |= plan->weighted[i] == IN_PYTHON;
    if (wants && !d->score_step) {
        d->score_step = 1;
        return NEEDS_COLUMNS;
    }
    d->score_step = d->rank_step = d->rows_step = 0;
    for (int64_t i = 0; i < plan->n_weighted; i++) {
        double *values = d->values + i * d->place_room;
        const double *handed = plan->weighted[i] == IN_PYTHON ? d->handed_column[i] : NULL;
        d->has_values[i] = handed || column_value(d, plan->weighted[i], d->scored, d->k, values);
        if (handed) memcpy(values, handed, (size_t)d->k * sizeof *values);
    }
    add_up(d);
    order_by_score(d);
    return DONE;
}
