/* Columns of co-visitation: what the lists of neighbours say of a candidate (columns.py). */
#include "columns.h"

static int64_t covisit_begin(const decision *d) { return d->source_begin[d->plan->covisit_at]; }
static int64_t covisit_end(const decision *d) { return d->source_begin[d->plan->covisit_at + 1]; }
static int has_neighbours(const decision *d) {
    return d->plan->covisit_at >= 0 && covisit_begin(d) < covisit_end(d);
}

static void make_covisit_sum(decision *d) {
    if (made(d, COVISIT_SUM)) return;
    memset(d->covisit_sum, 0, (size_t)d->n * sizeof *d->covisit_sum);
    for (int64_t i = covisit_begin(d); i < covisit_end(d); i++)
        d->covisit_sum[d->entry_number[i]] += d->entry_value[i];
}

/* float16 as float64, exactly */
static inline double share_of(uint16_t half) {
    uint64_t exponent = half >> 10 & 31, fraction = half & 1023, bits;
    if (!exponent) return (half >> 15 ? -0x1p-24 : 0x1p-24) * (double)fraction;
    bits = (uint64_t)(half >> 15) << 63 | (exponent == 31 ? 2047 : exponent + 1008) << 52 | fraction << 42;
    double share;
    memcpy(&share, &bits, sizeof share);
    return share;
}

static void make_listed(decision *d) {
    const decision_tables *t = d->tables;
    int64_t i = covisit_begin(d), end = covisit_end(d);
    if (made(d, LISTED)) return;
    memset(d->listed, 0, (size_t)d->n * sizeof *d->listed);
    for (; i < end; i++) {
        decision_listed *listed = &d->listed[d->entry_number[i]];
        double weight = d->interest_weight[d->entry_by[i]], value = d->entry_value[i];
        double score = weight > 0 ? value / weight : 0; /* an entry may weigh nothing: fade 0 */
        if (score > listed->best) listed->best = score;
        if (!d->entry_by[i]) listed->last += value / d->interest_weight[0];
        listed->lists++;
    }
    /* the source brings the lists in the order of the entries */
    i = covisit_begin(d);
    for (int64_t by = 0; by < d->n_interest; by++) {
        int64_t start = t->starts[d->interest[by]], length = t->lengths[d->interest[by]];
        double weight = d->interest_weight[by];
        for (int64_t j = start; j < start + length && i < end; j++, i++) {
            decision_listed *listed = &d->listed[d->entry_number[i]];
            double forward = share_of(t->forward[j]);
            if (!by) listed->next += forward;
            listed->forward += forward * weight;
            listed->backward += share_of(t->backward[j]) * weight;
        }
    }
}

int column_covisit(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!has_neighbours(d)) return 0;
    make_covisit_sum(d);
    for (int64_t i = 0; i < n; i++) out[i] = d->covisit_sum[numbers[i]];
    return 1;
}

#define LISTED_COLUMN(name, field)                                                           \
    int name(decision *d, const int32_t *numbers, int64_t n, double *out) {           \
        if (!has_neighbours(d)) return 0;                                                    \
        make_listed(d);                                                                      \
        for (int64_t i = 0; i < n; i++) out[i] = d->listed[numbers[i]].field;                \
        return 1;                                                                            \
    }
LISTED_COLUMN(column_covisit_best, best)
LISTED_COLUMN(column_covisit_last, last)
LISTED_COLUMN(column_next, next)
LISTED_COLUMN(column_forward, forward)
LISTED_COLUMN(column_backward, backward)

int column_covisit_count(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!has_neighbours(d)) return 0;
    make_listed(d);
    for (int64_t i = 0; i < n; i++) {
        double share = (double)d->listed[numbers[i]].lists / (double)d->n_interest;
        out[i] = share < 1 ? share : 1; /* a list may hold several variants of one group */
    }
    return 1;
}

int column_covisit_back(decision *d, const int32_t *numbers, int64_t n, double *out) {
    const decision_tables *t = d->tables;
    int32_t slot[MAX_INTEREST];
    double weight[MAX_INTEREST];
    int distinct = 0;
    few interest = {{0}};
    if (!d->n_interest || !n) return 0;
    for (int64_t i = 0; i < d->n_interest; i++) {
        int j = 0;
        while (j < distinct && slot[j] != d->interest[i]) j++;
        if (j == distinct) {
            slot[distinct] = d->interest[i];
            weight[distinct] = 0;
            few_put(&interest, slot[j], distinct++);
        }
        weight[j] += d->interest_weight[i];
    }
    for (int64_t i = 0; i < n; i++) {
        int32_t owner = d->slot[numbers[i]];
        const int32_t *listed = t->slots + t->starts[owner];
        int32_t length = t->lengths[owner];
        double sum = 0;
        for (int32_t j = 0; j < length; j++) {
            if (!few_find(&interest, listed[j])) continue;
            /* the filter keeps one place of several: all are looked at */
            for (int which = 0; which < distinct; which++)
                if (slot[which] == listed[j]) {
                    sum += weight[which] * (double)t->scores[t->starts[owner] + j];
                    break;
                }
        }
        out[i] = sum;
    }
    return 1;
}
