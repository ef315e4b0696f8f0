/* Which candidates must not be shown: rules.py defines the rules. A rule is a function and a line of RULES. */
#include "decision.h"

/* Candidates that an earlier rule removed count for that one. */
static inline void removes(decision *d, int64_t at, int64_t i, int is_removed) {
    if (is_removed && !d->removed_by[i]) d->removed_by[i] = (uint8_t)(1 + at), d->removed[at]++;
}

/* A set of numbers, asked often: its bits say no to most that it does not have. */
enum { SIEVE_BITS = 4096 };
typedef struct { uint64_t bits[SIEVE_BITS / 64]; } sieve;
static inline uint32_t place_of(uint32_t x) { return x * 0x9E3779B1u >> 20; }
static inline void sieve_add(sieve *s, uint32_t x) { s->bits[place_of(x) / 64] |= UINT64_C(1) << place_of(x) % 64; }
static inline int sieve_has(const sieve *s, uint32_t x, const void *all, int64_t n) {
    if (!(s->bits[place_of(x) / 64] >> place_of(x) % 64 & 1)) return 0;
    for (int64_t i = 0; i < n; i++)
        if (load32((const uint8_t *)all + 4 * i) == x) return 1;
    return 0;
}
static sieve sieve_of(const void *all, int64_t n) {
    sieve s = {{0}};
    for (int64_t i = 0; i < n; i++) sieve_add(&s, load32((const uint8_t *)all + 4 * i));
    return s;
}

static int unavailable(decision *d, int64_t at) {
    const int64_t *until = d->items->until, *published = d->items->published, now = d->ask->now;
    const int32_t *slot = d->slot;
    for (int64_t i = 0, n = d->n; i < n; i++)
        if ((until[slot[i]] <= now) | (published[slot[i]] > now)) removes(d, at, i, 1);
    return 1;
}

static int blocked(decision *d, int64_t at) {
    for (int64_t i = 0; i < d->n; i++)
        if (stamped(&d->blocked, d->epoch, d->slot[i])) removes(d, at, i, case_is_blocked(d, d->slot[i]));
    return 1;
}

static int served(decision *d, int64_t at) {
    const decision_ask *ask = d->ask;
    const decision_items *items = d->items;
    if (!ask->n_served) return 0;
    const sieve earlier = sieve_of(ask->served, ask->n_served);
    for (int64_t i = 0; i < d->n; i++) {
        int32_t slot = d->slot[i], group = items->groups ? items->group[slot] : 0;
        int was = sieve_has(&earlier, (uint32_t)items->hash[slot], ask->served, ask->n_served);
        if (!was && group > 0) was = sieve_has(&earlier, (uint32_t)items->group_hashes[group], ask->served, ask->n_served);
        removes(d, at, i, was);
    }
    return 1;
}

static int category(decision *d, int64_t at) {
    int64_t asked = d->ask->category;
    if (asked == NO_CATEGORY) return 0;
    for (int64_t i = 0; i < d->n; i++) removes(d, at, i, !items_in_category(d->items, d->slot[i], asked));
    return 1;
}

static int named_filter(decision *d, int64_t at) {
    const decision_ask *ask = d->ask;
    if (!ask->filter) return 0;
    int has_age = ask->filter_after != INT64_MIN;
    for (int64_t i = 0; i < d->n; i++) {
        int32_t slot = d->slot[i];
        int is_old = has_age && d->items->published[slot] <= ask->filter_after;
        removes(d, at, i, !ask->filter[slot] || is_old);
    }
    return 1;
}

static int hidden_item(decision *d, int64_t at) {
    if (!d->ask->hides_items) return 0;
    for (int64_t i = 0; i < d->n; i++)
        if (stamped(&d->blocked, d->epoch, d->slot[i])) removes(d, at, i, case_is_unwanted(d, d->slot[i]));
    return 1;
}

static int hidden_category(decision *d, int64_t at) {
    const decision_ask *ask = d->ask;
    const decision_items *items = d->items;
    if (!ask->hides_categories) return 0;
    const int32_t *all = ask->hidden_categories;
    const int64_t n = ask->n_hidden_categories;
    const sieve hidden = sieve_of(all, n);
    for (int64_t i = 0; i < d->n; i++) {
        int32_t slot = d->slot[i];
        const int32_t *run = items->member_pool + items->member_starts[slot];
        int in = sieve_has(&hidden, (uint32_t)items->category[slot], all, n);
        for (int32_t k = 0; k < items->member_lengths[slot] && !in; k++) in = sieve_has(&hidden, (uint32_t)run[k], all, n);
        removes(d, at, i, in);
    }
    return 1;
}

static int hidden_owner(decision *d, int64_t at) {
    const decision_ask *ask = d->ask;
    if (!ask->hides_owners) return 0;
    const sieve hidden = sieve_of(ask->hidden_owners, ask->n_hidden_owners);
    for (int64_t i = 0; i < d->n; i++)
        removes(d, at, i, sieve_has(&hidden, (uint32_t)d->items->owner[d->slot[i]], ask->hidden_owners, ask->n_hidden_owners));
    return 1;
}

/* Groups in other rows of the page, 0s among them, and that of the item in view. */
static int variant(decision *d, int64_t at) {
    const decision_ask *ask = d->ask;
    const decision_items *items = d->items;
    int32_t in_view = items->group[ask->in_view];
    int some = in_view > 0;
    for (int64_t i = 0; i < ask->n_groups && !some; i++) some = ask->groups[i] > 0;
    if (!items->groups || !some) return 0;
    const sieve others = sieve_of(ask->groups, ask->n_groups);
    for (int64_t i = 0; i < d->n; i++) {
        int32_t group = items->group[d->slot[i]];
        if (group > 0)
            removes(d, at, i, group == in_view || sieve_has(&others, (uint32_t)group, ask->groups, ask->n_groups));
    }
    return 1;
}

static int seen(decision *d, int64_t at) {
    if (!d->n_seen) return 0;
    for (int64_t i = 0; i < d->n; i++)
        if (stamped(&d->blocked, d->epoch, d->slot[i])) removes(d, at, i, case_is_waiting(d, d->slot[i]));
    return 1;
}

/* A rule gives 0 where it does not apply; `at`: its place in the plan. */
static const struct { const char *name; int (*apply)(decision *d, int64_t at); } RULES[] = {
    {"unavailable", unavailable},
    {"blocked", blocked},
    {"served", served},
    {"category", category},
    {"filter", named_filter},
    {"hidden_item", hidden_item},
    {"hidden_category", hidden_category},
    {"hidden_owner", hidden_owner},
    {"variant", variant},
    {"seen", seen},
};

/* The code of a rule by its name; IN_PYTHON where it has no entry here. */
KERNEL int decision_rule(const char *name) {
    for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++)
        if (!strcmp(RULES[i].name, name)) return (int)i;
    return IN_PYTHON;
}

static int handed(decision *d, int64_t at) {
    const uint8_t *mask = d->handed_mask[at];
    if (!mask) return 0;
    for (int64_t i = 0; i < d->n; i++) removes(d, at, i, mask[i] != 0);
    return 1;
}

int rules_eligible(decision *d) {
    const decision_plan *plan = d->plan;
    if (!d->rules_step) {
        d->rules_step = 1;
        for (int64_t at = 0; at < plan->n_rules; at++)
            if (plan->rule[at] == IN_PYTHON) return NEEDS_RULES;
    }
    d->rules_step = 0;
    case_block(d);
    memset(d->removed_by, NOT_REMOVED, (size_t)d->n);
    for (int64_t at = 0; at < plan->n_rules; at++) {
        d->removed[at] = 0;
        d->rule_applies[at] = plan->rule[at] == IN_PYTHON ? handed(d, at) : RULES[plan->rule[at]].apply(d, at);
    }
    d->n_kept = 0;
    for (int64_t i = 0; i < d->n; i++) {
        d->kept[d->n_kept] = (int32_t)i;
        d->n_kept += !d->removed_by[i];
    }
    groups_choose(d);
    return DONE;
}
