/* The ranker's order of the best by the coarse score, and the discount of what was shown lately (rank.py). */
#include <math.h>

#include "../../serving/decide/decision.h"

#define MAX_LOGIT 80.0
#define BLOCK 128 /* candidates whose rows are made together */

/* what rank_step and rows_step wait for */
enum { BEGINS, FEATURES, RANKING };

static int lacks_features(const decision *d) {
    int lacks = 0;
    for (int64_t i = 0; i < d->plan->n_features; i++) lacks |= d->plan->feature[i] == IN_PYTHON;
    return lacks;
}

/* asks Python for the columns of these candidates that have no entry in columns.c */
static void ask_features(decision *d, const int32_t *numbers, int64_t n) {
    memmove(d->asked, numbers, (size_t)n * sizeof *numbers);
    d->n_asked = n;
    memset(d->handed_feature, 0, sizeof d->handed_feature);
}

/* the column's place among those with a weight that have values; -1: it has none */
static int64_t weighted_at(const decision *d, int32_t code) {
    for (int64_t i = 0; i < d->plan->n_weighted; i++)
        if (d->plan->weighted[i] == code && d->has_values[i]) return i;
    return -1;
}

/* Rows (n, n_features). `places`: of the candidates among those scored, NULL: they are not. */
static void make_rows(decision *d, const int32_t *numbers, const int32_t *places, int64_t n, float *rows) {
    const decision_plan *plan = d->plan;
    int64_t width = plan->n_features;
    double block[BLOCK];
    for (int64_t column = 0; column < width; column++) {
        int32_t code = plan->feature[column];
        const double *handed = code == IN_PYTHON ? d->handed_feature[column] : NULL;
        int64_t at = places && code != IN_PYTHON ? weighted_at(d, code) : -1;
        for (int64_t begin = 0; begin < n; begin += BLOCK) {
            int64_t size = n - begin < BLOCK ? n - begin : BLOCK;
            float *row = rows + begin * width + column;
            const double *values = block;
            if (at >= 0) /* the coarse score has them already */
                for (int64_t i = 0; i < size; i++) block[i] = d->values[at * d->place_room + places[begin + i]];
            else if (handed)
                values = handed + begin;
            else if (!column_value(d, code, numbers + begin, size, block))
                memset(block, 0, sizeof block);
            for (int64_t i = 0; i < size; i++) row[i * width] = (float)values[i];
        }
    }
}

int rank_rows_of(decision *d, const int32_t *numbers, int64_t n, float *rows) {
    if (d->rows_step == BEGINS && n && lacks_features(d)) {
        ask_features(d, numbers, n);
        d->rows_step = FEATURES;
        return NEEDS_FEATURES;
    }
    d->rows_step = BEGINS;
    make_rows(d, numbers, NULL, n, rows);
    return DONE;
}

static int all_finite(const float *values, int64_t n) {
    int finite = 1;
    for (int64_t i = 0; i < n; i++) finite &= isfinite(values[i]) != 0;
    return finite;
}

/* rank.py `_merged`, into d->score */
static void merge(decision *d) {
    const int32_t *order = d->coarse_order;
    double least = INFINITY;
    for (int64_t i = 0; i < d->n_ranked; i++) {
        double logit = (double)d->predictions[i];
        logit = logit < -MAX_LOGIT ? -MAX_LOGIT : logit > MAX_LOGIT ? MAX_LOGIT : logit;
        double merged = 1 / (1 + exp(-logit));
        least = merged < least ? merged : least;
        d->score[order[i]] = (float)merged;
    }
    for (int64_t i = d->n_ranked; i < d->k; i++) {
        double fall = (double)d->total[order[i]] - (double)d->total[order[d->n_ranked]];
        d->score[order[i]] = (float)(least / 2 * exp(fall));
    }
}

/* rank.py `_fatigue`, into d->tiredness, and the discount */
static void tire(decision *d) {
    static const char SHOWN[] = "shown";
    int any = 0;
    d->has_tiredness = 0;
    if (d->plan->fatigue == 1 || !d->has_impressions || !d->k) return;
    if (!column_value(d, decision_column(SHOWN), d->scored, d->k, d->tiredness)) return;
    for (int64_t i = 0; i < d->k; i++) {
        if (!d->tiredness[i]) continue;
        any = 1;
        if (d->score[i] > 0) d->score[i] = (float)((double)d->score[i] * pow(d->plan->fatigue, d->tiredness[i]));
    }
    d->has_tiredness = any;
}

/* the first n of the coarse order by score, falling; the others stay behind them */
static void order_by_rank(decision *d, int64_t n) {
    int64_t room = d->entry_room > d->place_room ? d->entry_room : d->place_room;
    for (int64_t i = 0; i < n; i++) {
        float score = d->score[d->coarse_order[i]] + 0.0f; /* -0 equals 0 */
        d->keys[i] = (uint64_t)falls(score) << 32 | (uint32_t)d->coarse_order[i];
    }
    sort_keys(d->keys, d->keys + room, n, 32, 64);
    for (int64_t i = 0; i < n; i++) d->order[i] = (int32_t)(uint32_t)d->keys[i];
    memcpy(d->order + n, d->coarse_order + n, (size_t)(d->k - n) * sizeof *d->order);
}

int rank_best(decision *d) {
    const decision_plan *plan = d->plan;
    if (d->rank_step == BEGINS) {
        int32_t numbers[MAX_RANKED];
        d->ran = d->n_ranked = d->has_tiredness = d->rows_step = 0;
        d->ranker_applies = plan->ranker && d->n_interest > 0;
        if (d->ranker_applies) d->n_ranked = d->k < MAX_RANKED ? d->k : MAX_RANKED;
        for (int64_t i = 0; i < d->n_ranked; i++) numbers[i] = d->scored[d->coarse_order[i]];
        ask_features(d, numbers, d->n_ranked);
        d->rank_step = FEATURES;
        if (d->n_ranked && lacks_features(d)) return NEEDS_FEATURES;
    }
    if (d->rank_step == FEATURES) {
        make_rows(d, d->asked, d->coarse_order, d->n_ranked, d->rows);
        d->rank_step = RANKING;
        if (d->n_ranked && plan->ranker == 2) return NEEDS_RANKING;
        if (d->n_ranked) d->ran = !trees_predict(plan->trees, d->rows, d->n_ranked, plan->n_features, d->predictions);
    } else {
        d->ran = 1; /* Python ran it */
    }
    d->rank_step = BEGINS;
    d->ran = d->ran && d->n_ranked && all_finite(d->predictions, d->n_ranked);
    if (!d->ran) d->n_ranked = 0; /* the coarse order holds */
    memcpy(d->score, d->total, (size_t)d->k * sizeof *d->score);
    if (d->ran) merge(d);
    memcpy(d->before_fatigue, d->score, (size_t)d->k * sizeof *d->score);
    tire(d);
    /* without a discount those that were not ranked lie below, in the coarse order */
    order_by_rank(d, d->has_tiredness ? d->k : d->n_ranked);
    return DONE;
}
