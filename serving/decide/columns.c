/* COLUMNS: the values that a score is made of (columns.py). A new one is a function and a line in the table.
 *
 * Sums have the order of their definition. Logarithms and powers are rounded to float32, as it rounds them: numpy has
 * its own where the machine has AVX-512. So each value is the definition's to the last bit. */
#include "columns.h"

#include <math.h>

#define UNDATED INT64_MIN
#define DAY_MS 86400000.0
#define FRESH_HALF_LIFE_DAYS 30
#define AHEAD 6 /* rows of vectors that are fetched in advance */
#define BLOCK 128 /* candidates whose values are made together */

/* ---- vectors ---- */

static inline const float *row_at(const float *vectors, const int32_t *slots, const int32_t *numbers, int64_t i) {
    return vectors + (int64_t)slots[numbers ? numbers[i] : i] * DIM;
}

/* exact in any order (models.release.content) */
BY_CPU void column_cosines(const float *vectors, const int32_t *slots, const int32_t *numbers, int64_t n, const float *query,
                           double *out) {
    for (int64_t i = 0; i < n; i++) {
        const float *vector = row_at(vectors, slots, numbers, i);
        float lanes[16] = {0}, sum = 0;
        if (i + AHEAD < n) {
            const float *later = row_at(vectors, slots, numbers, i + AHEAD);
            for (int j = 0; j < DIM; j += 16) __builtin_prefetch(later + j);
        }
        for (int j = 0; j < DIM; j += 16)
            for (int lane = 0; lane < 16; lane++) lanes[lane] += vector[j + lane] * query[j + lane];
        for (int lane = 0; lane < 8; lane++) lanes[lane] += lanes[lane + 8];
        for (int lane = 0; lane < 4; lane++) lanes[lane] += lanes[lane + 4];
        sum = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
        out[i] = (double)sum;
    }
}

static void at_least_zero(double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) values[i] = values[i] > 0 ? values[i] : 0;
}

static int content(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!d->n_interest) return 0;
    column_cosines(d->items->vectors, d->slot, numbers, n, d->likeness, out);
    at_least_zero(out, n);
    return 1;
}

static int content_last(decision *d, const int32_t *numbers, int64_t n, double *out) {
    const float *vectors = d->items->vectors;
    if (!d->n_interest) return 0;
    column_cosines(vectors, d->slot, numbers, n, vectors + (int64_t)d->interest[0] * DIM, out);
    at_least_zero(out, n);
    return 1;
}

static int vector(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!d->space || !d->space->vectors || !d->has_vector) return 0;
    column_cosines(d->space->vectors, d->slot, numbers, n, d->vector, out);
    return 1;
}

static int vector_last(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!d->space || !d->space->vectors || !d->n_interest) return 0;
    const float *vectors = d->space->vectors;
    column_cosines(vectors, d->slot, numbers, n, vectors + (int64_t)d->interest[0] * DIM, out);
    return 1;
}

/* ---- popularity ---- */

static const double *mix_of(const decision *d) { return d->plan->mix[d->stranger != 0]; }

static void make_merged(decision *d) {
    if (made(d, MERGED)) return;
    memset(d->merged_first, -1, (size_t)d->n * sizeof *d->merged_first);
    for (int64_t i = d->n - 1; i >= 0; i--) {
        d->merged_next[i] = d->merged_first[d->chosen[i]];
        d->merged_first[d->chosen[i]] = (int32_t)i;
    }
}

/* tables_share of each candidate: quotients side by side */
BY_CPU static void shares(const decision_tables *t, const int32_t *slots, const int32_t *numbers, int64_t n,
                          const double *mix, double *out) {
    double of[BLOCK];
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t size = n - begin < BLOCK ? n - begin : BLOCK;
        for (int64_t i = 0; i < size; i++) out[begin + i] = 0;
        for (int w = 0; w < WINDOWS; w++) {
            double maximum = t->maxima[w], weight = mix[w];
            if (weight == 0) continue;
            for (int64_t i = 0; i < size; i++)
                of[i] = t->popularity[(int64_t)slots[numbers[begin + i]] * WINDOWS + w];
            for (int64_t i = 0; i < size; i++) out[begin + i] += of[i] / maximum * weight;
        }
    }
}

/* Pool.add_up of the shares by this mix */
static int popularity(decision *d, const int32_t *numbers, int64_t n, double *out, const double *mix) {
    if (!d->has_chosen) {
        shares(d->tables, d->slot, numbers, n, mix, out);
        return 1;
    }
    make_merged(d);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int32_t of = d->merged_first[numbers[i]]; of >= 0; of = d->merged_next[of])
            sum += tables_share(d->tables, d->slot[of], mix);
        out[i] = sum;
    }
    return 1;
}

/* `share` by one window */
static inline double windowed(const decision_tables *t, int32_t slot, int64_t window) {
    return t->popularity[(int64_t)slot * WINDOWS + window] / t->maxima[window];
}

#define LOG_FLOOR 1e-3
static double log_range(void) { return log1p(1 / LOG_FLOOR); }
static inline double scaled(double share, double range) { return rounded(log1p(share / LOG_FLOOR) / range); }

static int popular(decision *d, const int32_t *numbers, int64_t n, double *out) {
    return popularity(d, numbers, n, out, mix_of(d));
}

#define BY_WINDOW(window, at)                                                                  \
    static int popular_##window(decision *d, const int32_t *numbers, int64_t n, double *out) { \
        static const double mix[WINDOWS] = {[at] = 1};                                         \
        return popularity(d, numbers, n, out, mix);                                            \
    }
BY_WINDOW(1h, 0)
BY_WINDOW(24h, 1)
BY_WINDOW(7d, 2)
BY_WINDOW(90d, 3)

static int log_popular(decision *d, const int32_t *numbers, int64_t n, double *out, int64_t window) {
    double range = log_range();
    for (int64_t i = 0; i < n; i++) out[i] = scaled(windowed(d->tables, d->slot[numbers[i]], window), range);
    return 1;
}

#define LOG_BY_WINDOW(window, at)                                                                    \
    static int popular_##window##_log(decision *d, const int32_t *numbers, int64_t n, double *out) { \
        return log_popular(d, numbers, n, out, at);                                                  \
    }
LOG_BY_WINDOW(1h, 0)
LOG_BY_WINDOW(24h, 1)
LOG_BY_WINDOW(7d, 2)

static int popular_like(decision *d, const int32_t *numbers, int64_t n, double *out) {
    const double *mix = mix_of(d);
    double range = log_range();
    if (!d->n_interest) return 0;
    if (!made(d, INTEREST_POPULARITY)) {
        d->interest_popularity = 0;
        for (int64_t i = 0; i < d->n_interest; i++)
            d->interest_popularity += scaled(tables_share(d->tables, d->interest[i], mix), range) * d->interest_weight[i];
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = scaled(tables_share(d->tables, d->slot[numbers[i]], mix), range) - d->interest_popularity;
    return 1;
}

static int trend(decision *d, const int32_t *numbers, int64_t n, double *out) {
    double range = log_range();
    for (int64_t i = 0; i < n; i++) {
        int32_t slot = d->slot[numbers[i]];
        double day = windowed(d->tables, slot, d->plan->window_day);
        double week = windowed(d->tables, slot, d->plan->window_week);
        out[i] = day == week ? 0 : scaled(day, range) - scaled(week, range);
    }
    return 1;
}

/* ---- dates ---- */

/* ms since it was published, at least 0, of a dated item */
static double age_of(const decision *d, int64_t published) {
    int64_t age = (int64_t)((uint64_t)d->ask->now - (uint64_t)(published > 0 ? published : 0));
    return (double)(age > 0 ? age : 0);
}

static int fresh(decision *d, const int32_t *numbers, int64_t n, double *out) {
    for (int64_t i = 0; i < n; i++) {
        int32_t slot = d->slot[numbers[i]];
        int64_t published = d->items->published[slot];
        int dated = published != UNDATED && d->items->titled[slot];
        out[i] = dated ? rounded(exp2(-(age_of(d, published) / (FRESH_HALF_LIFE_DAYS * DAY_MS)))) : 0;
    }
    return 1;
}

static int age(decision *d, const int32_t *numbers, int64_t n, double *out) {
    for (int64_t i = 0; i < n; i++) {
        int64_t published = d->items->published[d->slot[numbers[i]]];
        out[i] = published != UNDATED ? rounded(log1p(age_of(d, published) / DAY_MS)) : 0;
    }
    return 1;
}

static const struct {
    const char *name;
    column *value;
} COLUMNS[] = {
    {"covisit", column_covisit},
    {"covisit_best", column_covisit_best},
    {"covisit_last", column_covisit_last},
    {"covisit_count", column_covisit_count},
    {"covisit_back", column_covisit_back},
    {"next", column_next},
    {"forward", column_forward},
    {"backward", column_backward},
    {"vector", vector},
    {"vector_last", vector_last},
    {"content", content},
    {"content_last", content_last},
    {"popular", popular},
    {"popular_like", popular_like},
    {"popular_1h", popular_1h},
    {"popular_24h", popular_24h},
    {"popular_7d", popular_7d},
    {"popular_90d", popular_90d},
    {"trend", trend},
    {"fresh", fresh},
    {"age", age},
    {"category", column_category},
    {"affinity", column_affinity},
    {"same_category_last", column_same_category_last},
    {"shown", column_shown},
    {"history", column_history},
    {"session", column_session},
    {"idle", column_idle},
    {"popular_1h_log", popular_1h_log},
    {"popular_24h_log", popular_24h_log},
    {"popular_7d_log", popular_7d_log},
};

/* The code of a column, IN_PYTHON where it has no entry here. */
KERNEL int decision_column(const char *name) {
    for (size_t i = 0; i < sizeof COLUMNS / sizeof *COLUMNS; i++)
        if (!strcmp(COLUMNS[i].name, name)) return (int)i;
    return IN_PYTHON;
}

int column_value(decision *d, int code, const int32_t *numbers, int64_t n, double *out) {
    if (code < 0 || (size_t)code >= sizeof COLUMNS / sizeof *COLUMNS) return 0;
    return COLUMNS[code].value(d, numbers, n, out);
}
