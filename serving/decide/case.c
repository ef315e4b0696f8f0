/* The person of a decision: case.py defines it. A row and the strings may hold any bytes. */
#include "decision.h"
#include "impressions.h"
#include <math.h>

/* ---- the list of the last actions (models.features.ring) ---- */

typedef struct {
    const uint8_t *ring;
    uint32_t n, count;                    /* ever entered; held now */
} recents;

static recents recents_of(const decision *d) {
    const decision_layout *l = d->layout;
    if (!d->ask->row) return (recents){NULL, 0, 0};
    uint32_t n = load32(d->ask->row + l->n), size = (uint32_t)l->ring_size;
    return (recents){d->ask->row + l->ring, n, n < size ? n : size};
}

/* The k-th newest entry, k < count. */
static inline const uint8_t *recent(const decision_layout *l, const recents *r, uint32_t k) {
    return r->ring + (r->n - 1 - k) % (uint32_t)l->ring_size * (size_t)l->entry_size;
}

/* interest.items: hashes of the last positive actions, newest first */
static int spoken(const decision *d, uint64_t *hashes) {
    const decision_layout *l = d->layout;
    const recents r = recents_of(d);
    int n = 0;
    for (uint32_t k = 0; k < r.count && k < MAX_INTEREST - 1; k++) {
        const uint8_t *entry = recent(l, &r, k);
        if (d->plan->positive[entry[l->action]] && !(entry[l->flags] & l->back)) hashes[n++] = load64(entry + l->item);
    }
    return n;
}

/* ---- content.person_vector: all sums are exact (interest.VECTOR_FADING), so no order of adding matters ---- */

/* the nearest integer, the even one of two (numpy.rint), of |x| below 2^51 */
static inline double rounded(double x) { return (x + 0x1.8p52) - 0x1.8p52; }

BY_CPU static void add_vector(double *sum, const float *vector, double weight) {
    for (int i = 0; i < DIM; i++) sum[i] += weight * vector[i];
}

BY_CPU static void put_on_grid(const double *sum, float *out) {
    double squares = 0;
    for (int i = 0; i < DIM; i++) squares += sum[i] * sum[i];
    double norm = sqrt(squares);
    if (norm == 0) norm = 1;
    for (int i = 0; i < DIM; i++) out[i] = (float)(rounded(sum[i] / norm * GRID) / GRID);
}

/* SpaceIndex.vectors_of: that of the release's own item, else that of the catalogue's */
static const float *vector_in_space(const decision *d, uint64_t hash) {
    const decision_space *s = d->space;
    int64_t first = 0, n = s->items;
    while (n > 0) {
        int64_t half = n / 2;
        if (s->hashes[first + half] < hash) first += half + 1, n -= half + 1;
        else n = half;
    }
    if (first < s->items && s->hashes[first] == hash) return s->item_vectors + first * DIM;
    return s->vectors + (int64_t)items_locate(d->items, hash) * DIM;
}

/* Case.vector */
static void make_vector(decision *d, const uint64_t *hashes, int n) {
    const decision_ask *ask = d->ask;
    d->has_vector = 0;
    if (!d->space || !d->space->vectors || !ask->personal) return;
    if (ask->vector && !ask->in_view) {
        for (int i = 0; i < DIM; i++) d->vector[i] = (int16_t)load16((const uint8_t *)ask->vector + 2 * i) / (float)GRID;
    } else {
        double sum[DIM] = {0};
        int rank = 0;
        if (ask->in_view) add_vector(sum, d->space->vectors + ask->in_view * DIM, d->plan->vector_fade[rank++]);
        for (int i = 0; i < n; i++) add_vector(sum, vector_in_space(d, hashes[i]), d->plan->vector_fade[rank++]);
        put_on_grid(sum, d->vector);
    }
    for (int i = 0; i < DIM; i++) d->has_vector |= d->vector[i] != 0;
}

/* Case._impressions */
static void take_impressions(decision *d) {
    const decision_ask *ask = d->ask;
    impression rows[MAX_IMPRESSIONS];
    int n = ask->n_impressions > 0 ? read_impressions(rows, ask->impressions, (size_t)ask->n_impressions) : 0;
    d->has_impressions = n > 0, d->n_shown = 0;
    if (!ask->personal) return;
    for (int i = 0; i < n; i++) {
        int32_t slot = items_locate(d->items, rows[i].item);
        int64_t age = (int64_t)((uint64_t)ask->now - (uint64_t)rows[i].last * 1000);
        /* to float32, as Case has it: the last bit of a power depends on the library */
        double decayed = (float)(rows[i].count * exp2((double)(age > 0 ? -age : 0) / (double)d->plan->half_life));
        int64_t at = d->n_shown++;
        for (; at && d->shown_slot[at - 1] > slot; at--)
            d->shown_slot[at] = d->shown_slot[at - 1], d->shown_count[at] = d->shown_count[at - 1];
        d->shown_slot[at] = slot, d->shown_count[at] = decayed;
    }
}

int case_open(decision *d) {
    const decision_items *items = d->items;
    const decision_ask *ask = d->ask;
    uint64_t hashes[MAX_INTEREST];
    int spoke = ask->personal ? spoken(d, hashes) : 0;
    d->n_interest = d->viewed = d->source_step = d->rules_step = d->search_k = 0;
    if (ask->personal && ask->in_view) d->interest[d->n_interest++] = (int32_t)ask->in_view, d->viewed = 1;
    for (int i = 0; i < spoke; i++) {
        int32_t slot = items_locate(items, hashes[i]);
        if (items->in_catalogue[slot]) d->interest[d->n_interest++] = slot;
    }
    double sum = 0, likeness[DIM] = {0};
    for (int64_t i = 0; i < d->n_interest; i++) sum += d->plan->fade[i];
    for (int64_t i = 0; i < d->n_interest; i++) {
        d->interest_weight[i] = d->plan->fade[i] / sum;
        add_vector(likeness, items->vectors + (int64_t)d->interest[i] * DIM, d->plan->vector_fade[i]);
    }
    put_on_grid(likeness, d->likeness);
    d->stranger = !d->n_interest;
    make_vector(d, hashes, spoke);
    take_impressions(d);
    return DONE;
}

/* ---- what the person has seen (models.seen) ---- */

enum { ENTRY = 13, SHOWS = 32, SHOWING = 8 | 16 | SHOWS, ACTED = SAID_VIEW | SAID_CLICK | SAID_PURCHASE };
enum { MAX_ENTRIES = 1 << (31 - SAID_BITS), AHEAD = 8, GROUPS_KEPT = 16 };

typedef struct {
    uint64_t item;
    uint32_t time;
    uint8_t bits;
} said;

typedef struct {
    const uint8_t *string;
    int64_t in_string, n;                 /* entries of the string, then those of the list, oldest first */
    recents list;
} history;

static history history_of(const decision *d) {
    const decision_ask *ask = d->ask;
    int64_t n = ask->n_seen / ENTRY;
    if (n > MAX_ENTRIES - MAX_RECENT) n = MAX_ENTRIES - MAX_RECENT;
    history h = {ask->seen, n, n, {NULL, 0, 0}};
    if (!ask->seen_is_whole) h.list = recents_of(d), h.n += h.list.count;
    return h;
}

static inline said said_at(const decision *d, const history *h, int64_t k) {
    if (k < h->in_string) {
        const uint8_t *at = h->string + k * ENTRY;
        return (said){load64(at), load32(at + 8), at[12]};
    }
    const decision_layout *l = d->layout;
    const uint8_t *at = recent(l, &h->list, h->list.count - 1 - (uint32_t)(k - h->in_string));
    uint8_t bits = d->plan->seen_bits[at[l->action]];
    /* as models.seen.bits_of: the quarter of its second in the high bits */
    if (bits) bits |= (uint8_t)(load16(at + l->ms) / 250 << 6);
    return (said){load64(at + l->item), load32(at + l->time), bits};
}

static inline uint64_t time_of(said s) { return (uint64_t)s.time << 2 | s.bits >> 6; }

/* The value of a slot in `blocked`: SAID_ bits, and above them 1 + the entry that shows or hides it last. */
static inline uint32_t value_of(const decision *d, int32_t slot) {
    return stamped(&d->blocked, d->epoch, slot) ? (uint32_t)d->blocked.value[slot] : 0;
}

static inline uint32_t latest_of(const decision *d, int32_t slot) {
    return stamped(&d->latest, d->epoch, slot) ? (uint32_t)d->latest.value[slot] : 0;
}

static inline void add_bits(decision *d, int32_t slot, uint32_t bits) {
    stamp(&d->blocked, d->epoch, slot, (int32_t)(value_of(d, slot) | bits));
}

static inline void acted_on(decision *d, int32_t slot, said s) {
    add_bits(d, slot, s.bits & ACTED);
    if (!stamped(&d->latest, d->epoch, slot) || latest_of(d, slot) < s.time) stamp(&d->latest, d->epoch, slot, (int32_t)s.time);
}

/* One entry said of one slot. Entries come last to first: of those of one time the first that comes counts. */
static inline void say(decision *d, const history *h, int32_t slot, int64_t k, said s) {
    if (s.bits & ACTED) acted_on(d, slot, s);
    if (!(s.bits & SHOWING)) return;
    uint32_t value = value_of(d, slot), held = value >> SAID_BITS;
    if (!held || time_of(said_at(d, h, held - 1)) < time_of(s))
        stamp(&d->blocked, d->epoch, slot, (int32_t)((uint32_t)(k + 1) << SAID_BITS | (value & ((1u << SAID_BITS) - 1))));
}

static inline int is_hidden(const decision *d, const history *h, uint32_t value) {
    return value >> SAID_BITS && !(said_at(d, h, (value >> SAID_BITS) - 1).bits & SHOWS);
}

static int64_t take_seen(decision *d) {
    const decision_items *items = d->items;
    const history h = history_of(d);
    int64_t some = 0;
    struct { int32_t group; uint32_t time; } bought[GROUPS_KEPT] = {{0, 0}};
    for (int64_t k = h.n - 1; k >= 0; k--) {
        if (k >= AHEAD && k - AHEAD < h.in_string)
            __builtin_prefetch(items->places + (load64(h.string + (k - AHEAD) * ENTRY) & items->places_mask));
        said s = said_at(d, &h, k);
        if (k >= h.in_string && !s.bits) continue;
        some++;
        int32_t slot = items_locate(items, s.item);
        if (slot) say(d, &h, slot, k, s);
        if (!items->groups) continue;
        if (!slot) {
            for (int32_t v = items->group_firsts[items_group(items, s.item)]; v; v = items->next_variant[v])
                say(d, &h, v, k, s);
            continue;
        }
        /* with an item its variants are bought */
        int32_t group = items->group[slot];
        if (!(s.bits & SAID_PURCHASE) || !group) continue;
        int at = group % GROUPS_KEPT;
        if (bought[at].group == group && bought[at].time >= s.time) continue;
        bought[at].group = group, bought[at].time = s.time;
        for (int32_t v = items->group_firsts[group]; v; v = items->next_variant[v])
            acted_on(d, v, (said){s.item, s.time, SAID_PURCHASE});
    }
    return some;
}

/* Stamps what was seen, excluded, or hidden by the preferences. */
void case_block(decision *d) {
    const decision_items *items = d->items;
    const decision_ask *ask = d->ask;
    d->n_seen = take_seen(d);
    for (int64_t i = 0; i < ask->n_exclude; i++) {
        uint64_t hash = load64((const uint8_t *)ask->exclude + 8 * i);
        int32_t slot = items_locate(items, hash);
        if (slot) add_bits(d, slot, SAID_EXCLUDED);
        else if (items->groups)
            for (int32_t v = items->group_firsts[items_group(items, hash)]; v; v = items->next_variant[v])
                add_bits(d, v, SAID_EXCLUDED);
    }
    add_bits(d, (int32_t)ask->in_view, SAID_EXCLUDED);
    for (int64_t i = 0; i < ask->n_hidden_items; i++) add_bits(d, ask->hidden_items[i], SAID_UNWANTED);
}

static const uint32_t KINDS[3] = {SAID_VIEW, SAID_CLICK, SAID_PURCHASE};

int case_is_blocked(const decision *d, int32_t slot) {
    uint32_t value = value_of(d, slot);
    if (!value) return 0;
    for (int i = 0; i < 3; i++)
        if (value & KINDS[i] && d->plan->repeat[i] < 0) return 1;
    const history h = history_of(d);
    return value & SAID_EXCLUDED || is_hidden(d, &h, value);
}

int case_is_waiting(const decision *d, int32_t slot) {
    uint32_t value = value_of(d, slot);
    if (!(value & ACTED)) return 0;
    double latest = latest_of(d, slot);
    for (int i = 0; i < 3; i++) {
        int64_t after = d->plan->repeat[i];
        if (value & KINDS[i] && after >= 0 && latest > (double)(int64_t)((uint64_t)d->ask->now - (uint64_t)after) / 1000) return 1;
    }
    return 0;
}

int case_is_unwanted(const decision *d, int32_t slot) { return (value_of(d, slot) & SAID_UNWANTED) != 0; }
