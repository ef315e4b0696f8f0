/* De-duplication, record by record: `models.dedupe.Deduper.fresh_by_numpy` is the definition. */
#include "kernel.h"

/* live buckets of a window: WINDOW_BUCKETS and the newest; bucket b lies at place b modulo PLACES */
enum { WINDOW_BUCKETS = 4, PLACES = WINDOW_BUCKETS + 1 };
/* of `state`: the newest time, how many ids are to be stored, how often their bucket changes, then of each
 * place these three */
enum { NEWEST, STORED, CHANGES, FIRST_PLACE, BUCKET = 0, BITS, USED, A_PLACE };

static inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

/* Where the id is in a table of 2^bits slots, or the free slot where it belongs. */
static inline uint64_t slot_of(const uint64_t *table, int64_t bits, uint64_t id) {
    uint64_t at = id >> (64 - bits), mask = ((uint64_t)1 << bits) - 1;
    while (table[at] && table[at] != id) at = (at + 1) & mask;
    return at;
}

/* The records from number `from` on: writes `fresh` (n, 0 or 1), and the ids to store with their buckets (n at
 * most, STORED of `state` so far). Answers n, or the number of the record that needs a bucket's table made, or
 * made larger: the caller does that, and calls again from there. A table is at most half full. */
KERNEL size_t dedupe_fresh(const uint64_t *ids, const int64_t *times, size_t n, size_t from, int64_t width,
                           int64_t *state, uint64_t **tables, uint8_t *fresh, uint64_t *stored,
                           int64_t *buckets) {
    for (size_t i = from; i < n; i++) {
        if (times[i] > state[NEWEST]) state[NEWEST] = times[i];
        fresh[i] = 1;
        if (!ids[i]) continue;
        int64_t top = floor_div(state[NEWEST], width);
        for (int k = 0; k < PLACES; k++) {
            const int64_t *place = state + FIRST_PLACE + A_PLACE * k;
            if (!place[USED] || place[BUCKET] < top - WINDOW_BUCKETS || place[BUCKET] > top) continue;
            if (!tables[k][slot_of(tables[k], place[BITS], ids[i])]) continue;
            fresh[i] = 0;
            break;
        }
        int64_t bucket = floor_div(times[i], width);
        if (!fresh[i] || bucket < top - WINDOW_BUCKETS) continue;
        int k = (int)(bucket - floor_div(bucket, PLACES) * PLACES);
        int64_t *place = state + FIRST_PLACE + A_PLACE * k;
        if (!place[BITS] || place[BUCKET] != bucket || (place[USED] + 1) * 2 > (int64_t)1 << place[BITS]) return i;
        tables[k][slot_of(tables[k], place[BITS], ids[i])] = ids[i];
        place[USED]++;
        if (state[STORED] && buckets[state[STORED] - 1] != bucket) state[CHANGES]++;
        stored[state[STORED]] = ids[i];
        buckets[state[STORED]++] = bucket;
    }
    return n;
}
