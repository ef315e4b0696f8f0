/* COLUMNS: the values that a score is made of (columns.py). A new one is a function and a line in the table.
 *
 * Sums have the order of their definition. Logarithms and powers are rounded to float32, as it rounds them: numpy has
 * its own where the machine has AVX-512. So each value is the definition's to the last bit. */
#include <math.h>

#include "../../serving/decide/decision.h"

#define UNDATED INT64_MIN
#define DAY_MS 86400000.0
#define MINUTE_MS 60000.0
#define FRESH_HALF_LIFE_DAYS 30
#define FEW 1024 /* places of a filter of a few numbers */
#define AHEAD 6  /* rows of vectors that are fetched in advance */

/* bits of decision.shared */
enum { COVISIT_SUM = 1, LISTED = 2, MERGED = 4, LEANING = 8, INTEREST_POPULARITY = 16 };

static int made(decision *d, int64_t what) {
    int was = (d->shared & what) != 0;
    d->shared |= what;
    return was;
}

/* A filter of a few numbers: 1 + the place of one that may be the number asked for, 0: it is none of them. */
typedef struct {
    uint8_t place[FEW];
} few;

static inline void few_put(few *filter, int32_t number, int place) {
    filter->place[(uint32_t)number % FEW] = (uint8_t)(1 + place);
}

static inline double rounded(double value) { return (double)(float)value; }

/* ---- co-visitation ---- */

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

static int covisit(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!has_neighbours(d)) return 0;
    make_covisit_sum(d);
    for (int64_t i = 0; i < n; i++) out[i] = d->covisit_sum[numbers[i]];
    return 1;
}

#define LISTED_COLUMN(name, field)                                                           \
    static int name(decision *d, const int32_t *numbers, int64_t n, double *out) {           \
        if (!has_neighbours(d)) return 0;                                                    \
        make_listed(d);                                                                      \
        for (int64_t i = 0; i < n; i++) out[i] = d->listed[numbers[i]].field;                \
        return 1;                                                                            \
    }
LISTED_COLUMN(covisit_best, best)
LISTED_COLUMN(covisit_last, last)
LISTED_COLUMN(next_item, next)
LISTED_COLUMN(forward, forward)
LISTED_COLUMN(backward, backward)

static int covisit_count(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!has_neighbours(d)) return 0;
    make_listed(d);
    for (int64_t i = 0; i < n; i++) {
        double share = (double)d->listed[numbers[i]].lists / (double)d->n_interest;
        out[i] = share < 1 ? share : 1; /* a list may hold several variants of one group */
    }
    return 1;
}

static int covisit_back(decision *d, const int32_t *numbers, int64_t n, double *out) {
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
        if (i + AHEAD < n) __builtin_prefetch(t->slots + t->starts[d->slot[numbers[i + AHEAD]]]);
        for (int32_t j = 0; j < length; j++) {
            if (!interest.place[(uint32_t)listed[j] % FEW]) continue;
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

/* ---- vectors ---- */

BY_CPU static void cosines(const float *vectors, const int32_t *slots, const int32_t *numbers, int64_t n,
                           const float *query, double *out) {
    for (int64_t i = 0; i < n; i++) {
        const float *vector = vectors + (int64_t)slots[numbers[i]] * DIM;
        float lanes[16] = {0}, sum = 0;
        if (i + AHEAD < n) {
            const float *later = vectors + (int64_t)slots[numbers[i + AHEAD]] * DIM;
            for (int j = 0; j < DIM; j += 16) __builtin_prefetch(later + j);
        }
        for (int j = 0; j < DIM; j += 16)
            for (int lane = 0; lane < 16; lane++) lanes[lane] += vector[j + lane] * query[j + lane];
        for (int lane = 0; lane < 8; lane++) lanes[lane] += lanes[lane + 8];
        for (int lane = 0; lane < 4; lane++) lanes[lane] += lanes[lane + 4];
        sum = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]); /* exact in any order (models.release.content) */
        out[i] = (double)sum;
    }
}

static void at_least_zero(double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) values[i] = values[i] > 0 ? values[i] : 0;
}

static int content(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!d->n_interest) return 0;
    cosines(d->items->vectors, d->slot, numbers, n, d->likeness, out);
    at_least_zero(out, n);
    return 1;
}

static int content_last(decision *d, const int32_t *numbers, int64_t n, double *out) {
    const float *vectors = d->items->vectors;
    if (!d->n_interest) return 0;
    cosines(vectors, d->slot, numbers, n, vectors + (int64_t)d->interest[0] * DIM, out);
    at_least_zero(out, n);
    return 1;
}

static int vector(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!d->space || !d->space->vectors || !d->has_vector) return 0;
    cosines(d->space->vectors, d->slot, numbers, n, d->vector, out);
    return 1;
}

static int vector_last(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!d->space || !d->space->vectors || !d->n_interest) return 0;
    const float *vectors = d->space->vectors;
    cosines(vectors, d->slot, numbers, n, vectors + (int64_t)d->interest[0] * DIM, out);
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

/* Pool.add_up of the shares by this mix */
static int popularity(decision *d, const int32_t *numbers, int64_t n, double *out, const double *mix) {
    if (!d->has_chosen) {
        for (int64_t i = 0; i < n; i++) out[i] = tables_share(d->tables, d->slot[numbers[i]], mix);
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

/* ---- the person ---- */

static int shown(decision *d, const int32_t *numbers, int64_t n, double *out) {
    few lately = {{0}};
    if (!d->has_impressions) return 0;
    for (int i = 0; i < d->n_shown; i++) few_put(&lately, d->shown_slot[i], i);
    for (int64_t i = 0; i < n; i++) {
        int32_t slot = d->slot[numbers[i]];
        out[i] = 0;
        if (!lately.place[(uint32_t)slot % FEW]) continue;
        for (int j = 0; j < d->n_shown; j++)
            if (d->shown_slot[j] == slot) {
                out[i] = d->shown_count[j];
                break;
            }
    }
    return 1;
}

static int category(decision *d, const int32_t *numbers, int64_t n, double *out) {
    const decision_ask *ask = d->ask;
    few liked = {{0}};
    if (!ask->personal || !ask->has_preferences || !ask->n_liked) return 0;
    for (int64_t i = 0; i < ask->n_liked; i++) few_put(&liked, ask->liked[i], 0);
    for (int64_t i = 0; i < n; i++) {
        int32_t category = d->items->category[d->slot[numbers[i]]];
        out[i] = 0;
        if (!category || !liked.place[(uint32_t)category % FEW]) continue;
        for (int64_t j = 0; j < ask->n_liked && !out[i]; j++) out[i] = ask->liked[j] == category;
    }
    return 1;
}

/* the number of a category's hash, 0: there is none */
static int32_t category_number(const decision_items *t, uint32_t hash) {
    for (uint64_t at = hash & t->category_mask;; at = (at + 1) & t->category_mask)
        if (!t->category_keys[at] || t->category_keys[at] == hash)
            return t->category_keys[at] ? t->category_values[at] : 0;
}

/* models.features.affinity of the list of recent actions: hashes and sums; how many */
static int affinity_of(const decision *d, uint32_t *hashes, double *sums) {
    const decision_layout *at = d->layout;
    const decision_items *items = d->items;
    if (!d->ask->row) return 0;
    uint32_t entered = load32(d->ask->row + at->n);
    int64_t held = entered < at->ring_size ? entered : at->ring_size;
    int found = 0;
    if (held > MAX_RECENT) held = MAX_RECENT;
    for (int64_t back = 0; back < held; back++) {
        const uint8_t *entry = d->ask->row + at->ring + (entered - 1 - back) % at->ring_size * at->entry_size;
        uint32_t hash = load32(entry + at->category);
        if (entry[at->flags] & at->back) continue;
        if (!hash) { /* the item came after the action */
            int32_t slot = items_locate(items, load64(entry + at->item));
            hash = items->in_catalogue[slot] ? items->category_hashes[items->category[slot]] : 0;
            if (!hash) continue;
        }
        int64_t age = d->ask->now - ((int64_t)load32(entry + at->time) * 1000 + load16(entry + at->ms));
        double weight = d->plan->weight_of_action[entry[at->action]];
        int j = 0;
        while (j < found && hashes[j] != hash) j++;
        if (j == found) {
            hashes[found] = hash;
            sums[found++] = 0;
        }
        sums[j] += weight * exp2(-((double)(age > 0 ? age : 0) / (double)at->affinity_half_life));
    }
    return found;
}

static void make_leaning(decision *d) {
    uint32_t hashes[MAX_RECENT];
    double sums[MAX_RECENT], top = 0;
    if (made(d, LEANING)) return;
    int found = affinity_of(d, hashes, sums);
    for (int i = 0; i < found; i++) top = sums[i] > top ? sums[i] : top;
    d->has_leaning = top > 0;
    d->n_leaning = 0;
    for (int i = 0; i < found && d->has_leaning; i++) {
        int32_t number = category_number(d->items, hashes[i]);
        if (!number) continue;
        d->leaning_category[d->n_leaning] = number;
        d->leaning[d->n_leaning++] = rounded(sums[i] / top > -1 ? sums[i] / top : -1);
    }
}

static int affinity(decision *d, const int32_t *numbers, int64_t n, double *out) {
    few leaning = {{0}};
    if (!d->ask->personal) return 0;
    make_leaning(d);
    if (!d->has_leaning) return 0;
    for (int i = 0; i < d->n_leaning; i++) few_put(&leaning, d->leaning_category[i], i);
    for (int64_t i = 0; i < n; i++) {
        int32_t category = d->items->category[d->slot[numbers[i]]];
        int place = leaning.place[(uint32_t)category % FEW];
        out[i] = 0;
        if (!place) continue;
        if (d->leaning_category[place - 1] == category) {
            out[i] = d->leaning[place - 1];
            continue;
        }
        for (int j = 0; j < d->n_leaning; j++)
            if (d->leaning_category[j] == category) out[i] = d->leaning[j];
    }
    return 1;
}

static int same_category_last(decision *d, const int32_t *numbers, int64_t n, double *out) {
    const int32_t *categories = d->items->category;
    if (!d->n_interest || !categories[d->interest[0]]) return 0;
    int32_t newest = categories[d->interest[0]];
    for (int64_t i = 0; i < n; i++) out[i] = categories[d->slot[numbers[i]]] == newest;
    return 1;
}

static int log_of_all(int64_t n, double *out, double number) {
    double value = rounded(log1p(number));
    for (int64_t i = 0; i < n; i++) out[i] = value;
    return 1;
}

static uint32_t count_at(const decision *d, int64_t at) { return d->ask->row ? load32(d->ask->row + at) : 0; }
static int64_t time_at(const decision *d, int64_t at) { return d->ask->row ? (int64_t)load64(d->ask->row + at) : 0; }

/* a stored time may be anything: now - time without a limit */
static __int128 since(const decision *d, int64_t time) { return (__int128)d->ask->now - time; }

static int history(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!d->ask->personal) return 0;
    return log_of_all(n, out, (double)count_at(d, d->layout->n));
}

static int session(decision *d, const int32_t *numbers, int64_t n, double *out) {
    int64_t last = time_at(d, d->layout->session_last);
    if (!d->ask->personal || since(d, last) > d->layout->session_gap) return 0;
    return log_of_all(n, out, (double)count_at(d, d->layout->session_n));
}

static int idle(decision *d, const int32_t *numbers, int64_t n, double *out) {
    int64_t newest = time_at(d, d->layout->newest);
    if (!d->ask->personal || !newest) return 0;
    __int128 ms = since(d, newest);
    return log_of_all(n, out, (ms > 0 ? (double)ms : 0) / MINUTE_MS);
}

typedef int column(decision *d, const int32_t *numbers, int64_t n, double *out);
static const struct {
    const char *name;
    column *value;
} COLUMNS[] = {
    {"covisit", covisit},
    {"covisit_best", covisit_best},
    {"covisit_last", covisit_last},
    {"covisit_count", covisit_count},
    {"covisit_back", covisit_back},
    {"next", next_item},
    {"forward", forward},
    {"backward", backward},
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
    {"category", category},
    {"affinity", affinity},
    {"same_category_last", same_category_last},
    {"shown", shown},
    {"history", history},
    {"session", session},
    {"idle", idle},
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
