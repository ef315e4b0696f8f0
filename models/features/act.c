/* models/features/act.py: a batch of actions, person by person, action by action */
#include "act.h"

#define LATE_MS (7 * (int64_t)DAY_MS)
#define FEW 48 /* actions that are sorted by insertion */
#define MAX_ACTIONS (1 << 26)
#define DIGIT_BITS 11

/* The bytes of the memory that a batch of n actions needs; -1: they are too many. */
KERNEL int64_t act_bytes(int64_t n) {
    if (n < 0 || n > MAX_ACTIONS) return -1;
    return (int64_t)sizeof(struct act) + 24 * 64 +
           n * (3 * 4 + 8 + 8 + 8 + 8 + 6 + 2 + ENTRY_SIZE + 4 + MAX_PARTNERS * 18 + 4 + 32) + 64;
}

static int64_t column(struct act *a, int64_t *end, int64_t bytes) {
    int64_t at = (*end + 15) & ~(int64_t)15;
    *end = at + bytes;
    return at;
}

static void lay_out(struct act *a, int64_t n) {
    int64_t end = sizeof *a;
    uint8_t *block = (uint8_t *)a;
    struct made *made = &a->made;
#define COLUMN(name, bytes) a->name = (void *)(block + column(a, &end, bytes))
#define MADE(name, bytes) (made->name = column(a, &end, bytes), a->name = (void *)(block + made->name))
    MADE(people, 8 * n);
    MADE(at, 8 * n);
    MADE(evicted_at, 8 * n);
    MADE(session_rank, 8 * n);
    MADE(changes, 32 * n);
    MADE(order, 4 * n);
    MADE(added, 4 * n);
    COLUMN(other, 4 * n);
    COLUMN(start, 4 * (n + 1));
    COLUMN(pair_start, 4 * n);
    MADE(recent_changed, n);
    MADE(verdict, n);
    MADE(late, n);
    MADE(in_order, n);
    MADE(repeats, n);
    MADE(met, n);
    MADE(pairs, n);
    COLUMN(pairs_of, n);
    MADE(evicted, ENTRY_SIZE * n);
    MADE(partner, 8 * MAX_PARTNERS * n);
    COLUMN(partner_of, 8 * MAX_PARTNERS * n);
    MADE(lag, MAX_PARTNERS * n);
    COLUMN(lag_of, MAX_PARTNERS * n);
    made->end = end;
}

static void sort_few(struct act *a) {
    for (int64_t i = 0; i < a->n; i++) {
        int64_t k = i, slot = a->slot[i];
        for (; k > 0 && a->slot[a->order[k - 1]] > slot; k--) a->order[k] = a->order[k - 1];
        a->order[k] = (uint32_t)i;
    }
}

/* Least significant digits first, which keeps the order of equal ones. */
static void sort_many(struct act *a, int64_t highest) {
    for (int64_t i = 0; i < a->n; i++) a->order[i] = (uint32_t)i;
    for (int shift = 0; highest >> shift; shift += DIGIT_BITS) {
        uint32_t place[1 << DIGIT_BITS] = {0}, sum = 0;
        for (int64_t i = 0; i < a->n; i++) place[a->slot[i] >> shift & ((1 << DIGIT_BITS) - 1)]++;
        for (int d = 0; d < 1 << DIGIT_BITS; d++) {
            uint32_t count = place[d];
            place[d] = sum;
            sum += count;
        }
        for (int64_t k = 0; k < a->n; k++) {
            uint32_t i = a->order[k];
            a->other[place[a->slot[i] >> shift & ((1 << DIGIT_BITS) - 1)]++] = i;
        }
        uint32_t *sorted = a->other;
        a->other = a->order;
        a->order = sorted;
    }
    a->made.order = (uint8_t *)a->order - (uint8_t *)a;
}

static void group(struct act *a) {
    int64_t people = 0;
    for (int64_t k = 0; k < a->n; k++) {
        int64_t slot = a->slot[a->order[k]];
        if (people && a->people[people - 1] == slot) continue;
        a->people[people] = slot;
        a->start[people++] = (uint32_t)k;
    }
    a->start[people] = (uint32_t)a->n;
    a->made.people_n = people;
}

/* Fills `late`, `in_order` and `recent_changed`: an action is in order if it is not older than the newest
   entry of the list at that moment, or the list is empty, and is not late. */
static void begin(struct act *a, int64_t who) {
    struct list list = list_of(a, row_of(a, who));
    int64_t newest = list.size ? entry_time(aged(&list, 0)) : -1;
    int recent = 0;
    for (uint32_t k = a->start[who]; k < a->start[who + 1]; k++) {
        uint32_t i = a->order[k];
        int64_t time = a->time[i];
        int late = a->received[i] > time && (uint64_t)a->received[i] - (uint64_t)time > LATE_MS;
        int enters = a->recent[a->action[i]];
        a->late[i] = (uint8_t)late;
        recent |= enters;
        a->in_order[i] = enters && !late && time >= newest;
        if (enters && !late && time > newest) newest = time;
        a->session_rank[i] = 0;
        a->verdict[i] = FACT;
        a->repeats[i] = a->met[i] = a->pairs_of[i] = 0;
    }
    a->recent_changed[who] = (uint8_t)recent;
}

/* Sorts and groups n actions. `block`: `size` bytes; `layout`: struct layout; `codes`: `recent` and
   `informative`. 0; -1: `size` is too small; -2: a slot is not one of the `rows_n` rows. */
KERNEL int act_begin(uint8_t *block, int64_t size, int64_t n, uint8_t *rows, int64_t rows_n,
                     int row_version, const int32_t *layout, const uint8_t *codes,
                     const int64_t *slot, const uint64_t *item, const uint32_t *category,
                     const int64_t *time, const int64_t *received, const uint8_t *action,
                     const uint64_t *session, const uint32_t *identity, const int64_t *overflow,
                     int64_t overflow_n) {
    struct act *a = (struct act *)block;
    if (act_bytes(n) < 0 || size < act_bytes(n)) return -1;
    memset(a, 0, sizeof *a);
    a->n = n;
    a->rows = rows;
    a->row_version = (uint16_t)row_version;
    memcpy(&a->layout, layout, sizeof a->layout);
    a->recent = codes;
    a->informative = codes + 256;
    a->slot = slot, a->item = item, a->category = category, a->time = time;
    a->received = received, a->action = action, a->session = session, a->identity = identity;
    a->overflow = overflow;
    a->overflow_n = overflow_n;
    lay_out(a, n);
    int64_t highest = 0;
    for (int64_t i = 0; i < n; i++) {
        if (slot[i] < 0 || slot[i] >= rows_n) return -2;
        if (slot[i] > highest) highest = slot[i];
    }
    if (n <= FEW) sort_few(a);
    else sort_many(a, highest);
    group(a);
    for (int64_t who = 0; who < a->made.people_n; who++) begin(a, who);
    return 0;
}

/* Folds them into the features' fields, one feature after the other. `at`: (count, MAX_FIELDS). */
KERNEL void act_fold(uint8_t *block, void **features, const int32_t *at, int64_t count) {
    struct act *a = (struct act *)block;
    for (int64_t who = 0; who < a->made.people_n; who++) {
        for (int64_t f = 0; f < count; f++)
            ((fold_feature *)features[f])(a, who, at + f * MAX_FIELDS);
        store16(row_of(a, who) + a->layout.version, a->row_version);
    }
}

/* Brings the facts into the order given. */
KERNEL void act_end(uint8_t *block) {
    struct act *a = (struct act *)block;
    int64_t facts = 0, pairs = 0;
    for (int64_t i = 0; i < a->n; i++) {
        if (a->verdict[i] != FACT) continue;
        int n = a->pairs_of[i];
        a->at[facts] = i;
        a->pairs[facts++] = (uint8_t)n;
        if (!n) continue;
        memcpy(a->partner + pairs, a->partner_of + a->pair_start[i], 8 * (size_t)n);
        memcpy(a->lag + pairs, a->lag_of + a->pair_start[i], (size_t)n);
        pairs += n;
    }
    a->made.facts_n = facts;
    a->made.pairs_n = pairs;
}
