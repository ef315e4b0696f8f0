/* From an order to a slate: arrange.py defines it. Candidates are places of what is scored. */
#include <math.h>
#include "decision.h"

#define GOLDEN 0x9E3779B97F4A7C15ULL
enum { NO_CAP = 1 << 30, COIN = 0, PICK = 1 };

typedef struct {
    int64_t category, owner, head;   /* caps, and the slots that they hold in */
} limits;

static int32_t slot_at(const decision *d, int32_t place) { return d->slot[d->scored[place]]; }
static int32_t category_at(const decision *d, int32_t place) { return d->items->category[slot_at(d, place)]; }
static int32_t owner_at(const decision *d, int32_t place) { return d->items->owner[slot_at(d, place)]; }

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* arrange.cap */
static int64_t cap(double share, int64_t count) {
    int64_t most = (int64_t)floor(share * (double)least(HEAD_SLOTS, count) + 1e-9);
    return most > 1 ? most : 1;
}

static int lifted(const decision *d) { return d->ask->category != -2 && d->plan->caps_below_one & 1; }

static limits limits_of(const decision *d) {
    const decision_plan *p = d->plan;
    int64_t count = d->ask->count;
    return (limits){lifted(d) ? NO_CAP : cap(p->category_cap, count), cap(p->owner_cap, count), least(HEAD_SLOTS, count)};
}

/* Of the first n places, how many have the category, and the owner. n is at most HEAD_SLOTS. */
static int64_t of_category(const decision *d, int64_t n, int32_t category) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) found += category_at(d, d->places[i]) == category;
    return found;
}
static int64_t of_owner(const decision *d, int64_t n, int32_t owner) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) found += owner_at(d, d->places[i]) == owner;
    return found;
}

/* The caps that the head breaks. */
static int64_t broken(const decision *d, limits caps) {
    int64_t found = lifted(d) ? RELAXED_CATEGORY : 0, n = least(caps.head, d->n_places);
    for (int64_t i = 0; i < n; i++) {
        int32_t category = category_at(d, d->places[i]), owner = owner_at(d, d->places[i]);
        if (category && of_category(d, n, category) > caps.category) found |= RELAXED_CATEGORY;
        if (owner && of_owner(d, n, owner) > caps.owner) found |= RELAXED_OWNER;
    }
    return found;
}

/* The greedy choice for the first `slots` slots. `mark` holds what a cap held back. */
static void fill(decision *d, limits caps, int64_t slots) {
    int64_t head = least(caps.head, slots), at = 0, n_back = 0, used = 0;
    int32_t *back = d->mark, categories[HEAD_SLOTS], owners[HEAD_SLOTS];
    d->held[0] = d->held[1] = 0, d->n_places = 0;
    while (at < d->k && d->n_places < head) {
        int32_t place = d->order[at++], category = category_at(d, place), owner = owner_at(d, place);
        int64_t n = d->n_places, same = 0, theirs = 0;
        for (int64_t i = 0; i < n; i++) same += categories[i] == category, theirs += owners[i] == owner;
        if (category && same >= caps.category) d->held[0]++, back[n_back++] = place;
        else if (owner && theirs >= caps.owner) d->held[1]++, back[n_back++] = place;
        else categories[n] = category, owners[n] = owner, d->places[d->n_places++] = place;
    }
    /* the candidates held back score higher than the rest */
    while (d->n_places < slots && used < n_back) d->places[d->n_places++] = back[used++];
    while (d->n_places < slots && at < d->k) d->places[d->n_places++] = d->order[at++];
}

/* Before `fits` of slot n: which candidates lie in the slots before it, in `mark`, and what is full there. */
typedef struct {
    int64_t n_categories, n_owners;
    int32_t categories[HEAD_SLOTS], owners[HEAD_SLOTS];
} full;

static full full_before(decision *d, limits caps, int64_t n) {
    full found = {0, 0, {0}, {0}};
    memset(d->mark, 0, (size_t)d->k * sizeof *d->mark);
    for (int64_t i = 0; i < n; i++) d->mark[d->places[i]] = 1;
    if (n >= caps.head) return found;
    for (int64_t i = 0; i < n; i++) {
        int32_t category = category_at(d, d->places[i]), owner = owner_at(d, d->places[i]);
        if (category && of_category(d, n, category) >= caps.category) found.categories[found.n_categories++] = category;
        if (owner && of_owner(d, n, owner) >= caps.owner) found.owners[found.n_owners++] = owner;
    }
    return found;
}

static int fits(const decision *d, const full *f, int32_t place) {
    if (d->mark[place]) return 0;
    for (int64_t i = 0; i < f->n_categories; i++)
        if (f->categories[i] == category_at(d, place)) return 0;
    for (int64_t i = 0; i < f->n_owners; i++)
        if (f->owners[i] == owner_at(d, place)) return 0;
    return 1;
}

static int is_fresh(const decision *d, int32_t place) {
    int32_t slot = slot_at(d, place);
    return d->items->titled[slot] && d->items->published[slot] > d->ask->now - d->plan->fresh_ms;
}

/* Puts a fresh item into the last slot so far where none got in. Whether one is in or there is no such rule. */
static int freshen(decision *d, limits caps) {
    if (d->plan->fresh_ms < 0) return 1;
    for (int64_t i = 0; i < d->n_places; i++)
        if (is_fresh(d, d->places[i])) return 1;
    if (!d->n_places) return 0;
    int64_t last = d->n_places - 1, any = 0;
    full f = full_before(d, caps, last);
    for (int64_t at = 0; at < d->k; at++) {
        int32_t place = d->order[at];
        if (!is_fresh(d, place)) continue;
        any = 1;
        if (fits(d, &f, place)) {
            d->places[last] = place, d->swapped[last] = 1;
            return 1;
        }
    }
    if (any) d->relaxed |= RELAXED_FRESH;
    return 0;
}

/* models.exploration.random_word */
static uint64_t random_word(uint64_t seed, uint64_t n) {
    uint64_t z = seed + (n + 1) * GOLDEN;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return z ^ z >> 31;
}

/* How often this placement served it; infinite without a title, which is never drawn. */
static double served(const decision *d, int32_t place) {
    int32_t slot = slot_at(d, place);
    if (!d->items->titled[slot]) return INFINITY;
    return slot < d->tables->n_served ? (double)d->tables->served[slot] : 0.0;
}

/* Draws the next slot; fills it greedily where no candidate that fits is drawn. */
static void draw(decision *d, limits caps) {
    int64_t n = d->n_places, n_least = 0;
    full f = full_before(d, caps, n);
    double fewest = INFINITY;
    for (int32_t place = 0; place < d->k; place++) {
        double often = served(d, place);
        if (often > fewest || !fits(d, &f, place)) continue;
        if (often < fewest) fewest = often, n_least = 0;
        n_least += often == fewest;
    }
    int32_t greedy = -1, best = -1;   /* the first in order that fits, and that is not in the slate */
    for (int64_t at = 0; at < d->k && greedy < 0; at++) {
        int32_t place = d->order[at];
        if (best < 0 && !d->mark[place]) best = place;
        if (fits(d, &f, place)) greedy = place;
    }
    if (!isfinite(fewest)) {
        if (greedy < 0) greedy = best;
        if (greedy >= 0) d->places[d->n_places++] = greedy;
        return;
    }
    double epsilon = d->plan->epsilon;
    d->explored = (double)(random_word(d->ask->seed, COIN) >> 11) / 9007199254740992.0 < epsilon;
    int64_t pick = (int64_t)((unsigned __int128)random_word(d->ask->seed, PICK) * (uint64_t)n_least >> 64);
    int32_t choice = greedy;
    if (d->explored)
        for (int32_t place = 0; place < d->k; place++)
            if (served(d, place) == fewest && fits(d, &f, place) && !pick--) {
                choice = place;
                break;
            }
    int is_least = served(d, choice) == fewest;
    d->probability = (is_least ? epsilon / (double)n_least : 0.0) + (choice == greedy ? 1 - epsilon : 0.0);
    d->drawn = 1, d->swapped[n] = choice != greedy;
    d->places[d->n_places++] = choice;
}

/* The slate of d->order: places, held, relaxed, fresh_held, drawn. */
void arrange_slate(decision *d) {
    int64_t count = d->ask->count, draws = d->plan->epsilon > 0 && count > 1, fixed = draws ? count - 1 : count;
    limits caps = limits_of(d);
    d->relaxed = d->drawn = d->explored = 0, d->probability = 1;
    memset(d->swapped, 0, (size_t)count);
    fill(d, caps, fixed);
    d->fresh_held = freshen(d, caps);
    if (draws && d->n_places == fixed) draw(d, caps);
    d->relaxed |= broken(d, caps);
}

/* After more of the slate was filled by candidates that the rule `seen` removed. No draw is among them. */
void arrange_extended(decision *d) {
    memset(d->swapped, 0, (size_t)d->n_places);
    d->relaxed |= broken(d, limits_of(d)) | RELAXED_SEEN, d->refilled = 1;
}

/* Whether more candidates could make the slate longer or fresher, or keep a cap that was relaxed. */
int arrange_needs_more(decision *d) {
    const decision_plan *p = d->plan;
    int64_t count = d->ask->count, fresh = p->fresh_at;
    if (d->n_places < count) return 1;
    int by_category = d->relaxed & RELAXED_CATEGORY && d->ask->category == -2, by_owner = !!(d->relaxed & RELAXED_OWNER);
    if ((by_category && d->category_available < 0) || (by_owner && d->owner_available < 0)) return -NEEDS_COUNTS;
    int64_t head = least(HEAD_SLOTS, count);
    if (by_category && d->category_available * cap(p->category_cap, count) >= head) return 1;
    if (by_owner && d->owner_available * cap(p->owner_cap, count) >= head) return 1;
    return !d->fresh_held && fresh >= 0 && d->source_begin[fresh + 1] - d->source_begin[fresh] >= d->deeper;
}
