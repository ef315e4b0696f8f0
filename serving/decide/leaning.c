/* Columns of what is known of the person: preferences, categories, impressions, actions (columns.py). */
#include <math.h>

#include "columns.h"

#define MINUTE_MS 60000.0

int column_shown(decision *d, const int32_t *numbers, int64_t n, double *out) {
    few lately = {{0}};
    if (!d->has_impressions) return 0;
    for (int i = 0; i < d->n_shown; i++) few_put(&lately, d->shown_slot[i], i);
    for (int64_t i = 0; i < n; i++) {
        int32_t slot = d->slot[numbers[i]];
        out[i] = 0;
        if (!few_find(&lately, slot)) continue;
        for (int j = 0; j < d->n_shown; j++)
            if (d->shown_slot[j] == slot) {
                out[i] = d->shown_count[j];
                break;
            }
    }
    return 1;
}

int column_category(decision *d, const int32_t *numbers, int64_t n, double *out) {
    const decision_ask *ask = d->ask;
    few liked = {{0}};
    if (!ask->personal || !ask->has_preferences || !ask->n_liked) return 0;
    for (int64_t i = 0; i < ask->n_liked; i++) few_put(&liked, ask->liked[i], 0);
    for (int64_t i = 0; i < n; i++) {
        int32_t category = d->items->category[d->slot[numbers[i]]];
        out[i] = 0;
        if (!category || !few_find(&liked, category)) continue;
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
        sums[j] += weight * rounded(exp2(-((double)(age > 0 ? age : 0) / (double)at->affinity_half_life)));
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

int column_affinity(decision *d, const int32_t *numbers, int64_t n, double *out) {
    few leaning = {{0}};
    if (!d->ask->personal) return 0;
    make_leaning(d);
    if (!d->has_leaning) return 0;
    for (int i = 0; i < d->n_leaning; i++) few_put(&leaning, d->leaning_category[i], i);
    for (int64_t i = 0; i < n; i++) {
        int32_t category = d->items->category[d->slot[numbers[i]]];
        int place = few_find(&leaning, category);
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

int column_same_category_last(decision *d, const int32_t *numbers, int64_t n, double *out) {
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

int column_history(decision *d, const int32_t *numbers, int64_t n, double *out) {
    if (!d->ask->personal) return 0;
    return log_of_all(n, out, (double)count_at(d, d->layout->n));
}

int column_session(decision *d, const int32_t *numbers, int64_t n, double *out) {
    int64_t last = time_at(d, d->layout->session_last);
    if (!d->ask->personal || since(d, last) > d->layout->session_gap) return 0;
    return log_of_all(n, out, (double)count_at(d, d->layout->session_n));
}

int column_idle(decision *d, const int32_t *numbers, int64_t n, double *out) {
    int64_t newest = time_at(d, d->layout->newest);
    if (!d->ask->personal || !newest) return 0;
    __int128 ms = since(d, newest);
    return log_of_all(n, out, (ms > 0 ? (double)ms : 0) / MINUTE_MS);
}
