/* One decision over contiguous arrays: what its stages share. Each stage lies in a C file beside the Python file that
 * defines it; decide.c runs them. Nothing here is owned: Python allocates all of it (compiled.py) and keeps it alive.
 *
 * A slot is a row of the catalogue, 0 is none. An entry is what a source brought; a number is a candidate of the pool
 * (`serving.decide.pool.Pool`); a place is one of those that are scored (`results.Scored`). */
#ifndef FRESHET_DECISION_H
#define FRESHET_DECISION_H
#include "kernel.h"

#define DIM 64               /* models.release.content.DIM */
#define GRID 2048            /* models.release.content.GRID */
#define MAX_INTEREST 21      /* interest.LATEST_ACTIONS and the item in view */
#define MAX_SCORED 1000
#define MAX_RANKED 100
#define MAX_SEARCHED 1000
#define MAX_SHOWN_LATELY 64  /* impressions.MAX_IMPRESSIONS */
#define HEAD_SLOTS 10
#define MAX_SOURCES 32
#define MAX_RULES 32
#define MAX_COLUMNS 64
#define WINDOWS 4
#define STAGES 6
#define MAX_RECENT 64        /* at least models.features.ring.RING_SIZE */
#define STAMP_BYTES 24       /* of a slot, in the block of decision_slots */
#define SHOWN_NUMBERS 8      /* of an item that is shown, in out_items */
#define COUNTS 18            /* in out_counts, before those by source and by rule */

/* what decision_run returns: it is done, or what Python has to give before it is called again */
KERNEL_TYPE enum { DONE, NEEDS_ROOM, NEEDS_SEARCH, NEEDS_SOURCES, NEEDS_RULES, NEEDS_COLUMNS, NEEDS_FEATURES, NEEDS_RANKING, NEEDS_COUNTS };
/* code of a source, rule or column that has no entry in the table of its C file */
KERNEL_TYPE enum { IN_PYTHON = -1 };
/* of ask.category: none is asked for */
KERNEL_TYPE enum { NO_CATEGORY = -2 };
/* kinds of a reason, and of the text that B's compiled.py makes of it: explain.py */
KERNEL_TYPE enum { WHY_NONE, WHY_COVISIT, WHY_CONTENT, WHY_VECTOR, WHY_POPULAR, WHY_CATEGORY, WHY_FRESH };
KERNEL_TYPE enum { SAYS_NOTHING, SAYS_WATCHED, SAYS_SIMILAR, SAYS_TASTE, SAYS_CATEGORY, SAYS_POPULAR, SAYS_NEW, SAYS_LISTED, SAYS_EXPLORED, SAYS_SEEN_BEFORE };
KERNEL_TYPE enum { EXPLAIN_NONE, EXPLAIN_REASON, EXPLAIN_FULL };
/* of removed_by, beside 1 + the place of a rule in the plan */
enum { NOT_REMOVED = 0, PASSED_OVER = 255 };
/* in the value of `blocked`: kinds of action as models.seen has them, then what a request or preferences name */
enum { SAID_VIEW = 1, SAID_CLICK = 2, SAID_PURCHASE = 4, SAID_EXCLUDED = 8, SAID_UNWANTED = 16, SAID_BITS = 5 };
KERNEL_TYPE enum { RELAXED_CATEGORY = 1, RELAXED_OWNER = 2, RELAXED_FRESH = 4, RELAXED_SEEN = 8 };

/* the catalogue: columns by slot (serving/world/catalogue.py, models/memberships.py) */
KERNEL_TYPE typedef struct {
    int64_t capacity, size, count;
    const uint64_t *hash;
    const int32_t *category, *owner, *group, *next_variant;
    const int64_t *published, *until;
    const uint8_t *in_catalogue, *leads, *titled;
    const float *vectors;                 /* (capacity, DIM), on the grid */
    uint64_t places_mask;
    const int32_t *places;                /* open addressing, linear probing from hash & mask: a slot, 0 is empty */
    const int64_t *member_starts;         /* further categories of a slot: a run of member_pool */
    const int32_t *member_lengths, *member_pool;
    int64_t groups;                       /* numbers of groups, 0 while no item has one; 0 is no group */
    const uint64_t *group_hashes;         /* by number; firsts: the slot with the least hash, sizes: of its variants */
    const int32_t *group_firsts, *group_sizes;
    uint64_t group_mask;
    const int32_t *group_places;          /* open addressing by the group's hash: a number, 0 is empty */
    int64_t categories;                   /* numbers of categories; 0 is none */
    const uint32_t *category_hashes;      /* by number */
    uint64_t category_mask;
    const uint32_t *category_keys;        /* open addressing by hash & mask: 0 is empty */
    const int32_t *category_values;       /* the number of that hash */
} decision_items;

/* one version of the tables (serving/world/tables.py) */
KERNEL_TYPE typedef struct {
    const int64_t *starts;                /* neighbours by slot: a run of the pools, best first */
    const int32_t *lengths, *slots;
    const float *scores;
    const uint16_t *forward, *backward;   /* float16 */
    const double *popularity;             /* (capacity, WINDOWS) */
    double maxima[WINDOWS];               /* at least the least positive number: never 0 */
    const uint32_t *served;               /* of this placement, by slot; an item beyond its end never was */
    int64_t n_served;
    const int32_t *newest;                /* serving.world.catalogue: dated and titled, the latest first */
    const int64_t *ages;                  /* -published of those */
    int64_t n_newest;
    const int32_t *least_served;          /* what the source `explore` brings this minute */
    int64_t n_least_served;
} decision_tables;

/* the space of the release (serving/world/index.py SpaceIndex) */
KERNEL_TYPE typedef struct {
    const float *vectors;                 /* (capacity, DIM) by slot; NULL: no release */
    int64_t items;
    const uint64_t *hashes;               /* (items,) ascending: those of the release itself */
    const float *item_vectors;            /* (items, DIM) of those */
} decision_space;

/* recipe, release and counting, prepared once (compiled.py Plan) */
KERNEL_TYPE typedef struct {
    int64_t depth, caps_below_one;        /* bit 0: the category cap is below 1 */
    double category_cap, owner_cap;       /* shares */
    double epsilon, fatigue;
    int64_t half_life;                    /* of fatigue, ms */
    int64_t fresh_ms;                     /* the rule of one fresh item: published after now - this; -1: there is no such rule */
    int64_t fresh_source_ms;              /* of the source `fresh`, likewise */
    int64_t repeat[3];                    /* of VIEW, CLICK, PURCHASE: ms; -1: never again */
    double fade[MAX_INTEREST];            /* interest.fading(counting.fade) */
    double vector_fade[MAX_INTEREST];     /* interest.VECTOR_FADING */
    double mix[2][WINDOWS];               /* Case.mix of people with an interest, and without: weight / sum of weights */
    int64_t window_day, window_week, window_variant;   /* columns of the popularity: 24h, 7d, 90d */
    int64_t n_sources;                    /* those asked, in the order of SOURCES: bit i of `brought` is the i-th */
    int32_t source[MAX_SOURCES];
    const int32_t *order[MAX_SOURCES][2]; /* of a source of popularity: Tables.popular of its mix, [1] for strangers */
    int64_t ordered[MAX_SOURCES][2];
    double source_mix[MAX_SOURCES][2][WINDOWS];
    int64_t first_popular;                /* place of the first source of popularity asked: score.py `_secondary` */
    int64_t covisit_at, vector_at, content_at, fresh_at;   /* places of these sources, -1: not asked */
    int64_t n_rules;
    int32_t rule[MAX_RULES];              /* in the order of RULES */
    int64_t variant_rule, seen_rule;      /* places of those two in `rule` */
    int64_t n_weighted;                   /* columns with a weight, in the order of ALL_COLUMNS */
    int32_t weighted[MAX_COLUMNS], why[MAX_COLUMNS];
    double weight[MAX_COLUMNS];
    int64_t n_features;                   /* of the ranker, in the release's order */
    int32_t feature[MAX_COLUMNS];
    int64_t ranker;                       /* 0: none applies; 1: `trees`; 2: Python runs it */
    const void *trees;                    /* models/release/trees.c */
    int64_t new_ms;                       /* explain.MAX_NEW_DAYS */
    float similar_cosine;                 /* explain.MIN_SIMILAR_COSINE */
    double weight_of_action[256];         /* schemas.actions.WEIGHT by code; 0 beyond */
    uint8_t positive[256], seen_bits[256];/* interest.POSITIVE, seen.BITS by code */
} decision_plan;

/* what one request asks, and the person (case.py Ask, person.py Person) */
KERNEL_TYPE typedef struct {
    int64_t now, count, personal, explain;
    uint64_t seed;
    int64_t in_view;                      /* slot */
    int64_t category;                     /* number; -1: no item has it; -2: none is asked for */
    const int32_t *category_slots;        /* of a small category: its slots, in no order; NULL: read the order */
    int64_t n_category_slots;
    const int32_t *category_rank[MAX_SOURCES][2];   /* then by slot: its place in `order` */
    const uint8_t *filter;                /* by slot: passes; NULL: no filter */
    int64_t filter_after;                 /* published at or before it: outside; INT64_MIN: no such limit */
    const uint64_t *exclude; int64_t n_exclude;     /* hashes of items or groups */
    const uint32_t *served; int64_t n_served;       /* low halves of hashes, of earlier pages */
    const int32_t *groups; int64_t n_groups;        /* numbers: other rows of the page show them */
    const uint8_t *row;                   /* models.features.registry.ROW, whole; NULL: nothing stored */
    const uint8_t *seen; int64_t n_seen;  /* bytes of models.seen.ENTRY, of the stored string */
    const uint8_t *impressions; int64_t n_impressions;   /* as stored, bytes */
    const int16_t *vector;                /* stored, of this release, complete; NULL: made here */
    int64_t has_preferences;
    const int32_t *liked; int64_t n_liked;               /* numbers of categories, 0s where one is unknown */
    const int32_t *hidden_items; int64_t n_hidden_items; /* slots */
    const int32_t *hidden_categories; int64_t n_hidden_categories;
    const int32_t *hidden_owners; int64_t n_hidden_owners;
    /* whether the preferences name any of these: the rule applies, also where nothing was found */
    int64_t hides_items, hides_categories, hides_owners;
    int64_t seen_is_whole;                /* `seen` has what the row's list says of it, too */
} decision_ask;

/* places in a row and its list (models.features): offsets */
KERNEL_TYPE typedef struct {
    int64_t n, ring, newest, session_last, session_n, size;
    int64_t entry_size, ring_size, item, time, ms, category, action, flags, back;
    int64_t session_gap;                  /* models.features.session.GAP_MS */
    int64_t affinity_half_life;
} decision_layout;

/* by slot, valid where `epoch` is that of the request: nothing of the catalogue's size is cleared */
KERNEL_TYPE typedef struct {
    uint32_t *epoch;
    int32_t *value;
} decision_stamps;

/* of a candidate: what the lists of the interest's entries say of it (columns.c) */
KERNEL_TYPE typedef struct {
    double best, last, next, forward, backward;
    int64_t lists;                        /* how many hold it */
} decision_listed;

KERNEL_TYPE typedef struct {
    const decision_items *items;
    const decision_tables *tables;
    const decision_space *space;
    const decision_plan *plan;
    const decision_ask *ask;
    const decision_layout *layout;

    /* ---- the workspace: carved out of blocks by decision_room and decision_slots ---- */
    int64_t slot_room;                    /* slots of the stamps: at least items->capacity */
    uint32_t epoch;                       /* rises with each use of stamps; at its end they are cleared */
    /* number of the candidate; SAID_ bits and the entry that shows or hides; Unix seconds (u32) of the newest action */
    decision_stamps pool_at, blocked, latest;
    int64_t entry_room, place_room;       /* entries and candidates; places */
    int64_t room_needed;                  /* entries, where it returned NEEDS_ROOM */

    /* ---- state of the machine ---- */
    int64_t step, deeper, tries;          /* deeper: the depth of this retrieval */
    int64_t clock_ns;                     /* when the stage before this one ended */

    /* ---- case.c: the person ---- */
    int64_t n_interest, viewed;           /* viewed: the first entry is the item in view */
    int32_t interest[MAX_INTEREST];
    double interest_weight[MAX_INTEREST];
    float likeness[DIM], vector[DIM];
    int64_t has_vector;                   /* Case.vector is not None */
    int64_t stranger;                     /* 1: no interest: index into mix, order */
    int64_t n_shown;                      /* Case._impressions: slots ascending, decayed counts */
    int32_t shown_slot[MAX_SHOWN_LATELY];
    double shown_count[MAX_SHOWN_LATELY];
    int64_t has_impressions;              /* the person has any, personal or not */
    int64_t n_seen;                       /* entries of what the person has seen, of case_block */

    /* ---- sources.c: entries, then candidates ---- */
    int64_t searches;                     /* NEEDS_SEARCH: bit 0 content (likeness), bit 1 the release's space (vector) */
    int64_t search_k;
    const int32_t *found_slots[2]; const float *found_similarity[2]; int64_t n_found[2];
    const int32_t *handed_slots[MAX_SOURCES]; const double *handed_values[MAX_SOURCES];
    const int64_t *handed_entries[MAX_SOURCES]; int64_t n_handed[MAX_SOURCES];
    int64_t n_entries;                    /* of sources; the variants of groups follow in the candidates only */
    int64_t source_begin[MAX_SOURCES + 1];
    int32_t *entry_slot, *entry_number, *entry_by;   /* number: after groups.choose, of the one in whose place it is shown */
    int32_t *entry_brought;               /* number before that */
    double *entry_value;
    int64_t n;                            /* candidates */
    int32_t *slot;
    uint32_t *bits, *brought;             /* sources of each, after and before `choose` (Pool._bits, Pool._brought) */
    int64_t has_chosen;
    int32_t *chosen;                      /* (n,) where has_chosen: Pool.chosen */
    int64_t by_source[MAX_SOURCES];       /* Pool.counts */

    /* ---- rules.c, groups.c ---- */
    const uint8_t *handed_mask[MAX_RULES];/* (n,) of a rule in Python; NULL: it does not apply */
    uint8_t *removed_by;                  /* (n,) 1 + place of the first rule that did; PASSED_OVER */
    int64_t rule_applies[MAX_RULES], removed[MAX_RULES];
    int64_t n_kept, n_passed_over;
    int32_t *kept, *passed_over;          /* numbers, ascending */

    /* ---- score.c ---- */
    int64_t k;
    int32_t *scored;                      /* (k,) numbers, ascending */
    const double *handed_column[MAX_COLUMNS];   /* (k,) of a weighted column in Python, by its place in the plan; NULL: None */
    uint8_t has_values[MAX_COLUMNS];
    double *values;                       /* (n_weighted, place_room) */
    float *total;                         /* (k,) */
    int32_t *coarse_order;                /* (k,) places, best first */

    /* ---- rank.c ---- */
    int64_t n_ranked, ran;                /* ran: the ranker did, and all its outputs are finite */
    int64_t ranker_applies;
    float *rows;                          /* (n_ranked, n_features) */
    float *predictions;                   /* (n_ranked,) of NEEDS_RANKING or of the trees */
    float *score, *before_fatigue;        /* (k,) */
    double *tiredness;                    /* (k,) Ranked.fatigue */
    int64_t has_tiredness;
    int32_t *order;                       /* (k,) places, best first */
    /* NEEDS_FEATURES: values (n_asked,) of the columns in Python for these numbers, by their place in plan->feature */
    int32_t *asked; int64_t n_asked;
    const double *handed_feature[MAX_COLUMNS];

    /* ---- arrange.c ---- */
    int64_t category_available, owner_available;   /* Filters.count_distinct, of NEEDS_COUNTS; -1: not known yet */
    int64_t n_places;
    int32_t *places;                      /* the slate */
    uint8_t *swapped;                     /* (n_places,) */
    int32_t *mark;                        /* (entry_room,) of arrange and explain, by place or candidate */
    int64_t held[2], relaxed, fresh_held, drawn, explored, filling;
    int64_t refilled;                     /* RELAXED_SEEN was added: `extended` */
    double probability;

    /* ---- explain.c: what Python reads, by rank ---- */
    int64_t exhausted, fallback;          /* fallback: 0 none, 1 popular, 2 content, 3 no_model */
    int64_t again;                        /* candidates that `seen` alone removed and that are not shown */
    int32_t *missed;                      /* (place_room,) shown candidates that the ranker did not see */
    int32_t *out_items;                   /* (n_places, SHOWN_NUMBERS) */
    int64_t *out_counts;                  /* (COUNTS + MAX_SOURCES + MAX_RULES,): COUNT_, by source, by rule (-1: it does not apply) */
    float *out_score, *out_rows;          /* rows (n_places, n_features), where `ran`; room for twice as many */
    double *out_values;                   /* explain=full: (n_places, n_weighted) */
    float *out_prediction; uint8_t *out_predicted;
    float *out_before; double *out_tiredness;
    int64_t stage_ns[STAGES];             /* retrieve, eligible, score, rank, arrange, explain */

    /* ---- columns.c: what several columns share, made of this pool when one first asks for it ---- */
    int64_t shared;                       /* bits of what is made; score_shortlist clears them */
    double *covisit_sum;                  /* (entry_room,) Pool.sums("covisit") */
    decision_listed *listed;              /* (entry_room,) */
    int32_t *merged_first, *merged_next;  /* (entry_room,) of a candidate: those in whose place it is shown, ascending; -1: no more */
    double interest_popularity;           /* of `popular_like` */
    int64_t has_leaning, n_leaning;       /* of `affinity`: numbers of categories, and the leaning to each */
    int32_t leaning_category[MAX_RECENT];
    double leaning[MAX_RECENT];
    /* ---- score.c, rank.c ---- */
    int64_t score_step, rank_step, rows_step;   /* 0: begins; else it waits for what it returned. score_shortlist clears them */
    uint64_t *keys;                       /* (2 * max(entry_room, place_room),) of sorts */
    double *number_sum;                   /* (entry_room,) */
    uint32_t *number_rank, *number_at;    /* (entry_room,) each */
    /* ---- sources.c, rules.c ---- */
    int64_t source_step, rules_step;      /* 0: begins; else it waits for what it returned. case_open clears them */
} decision;

/* of an item that is shown; `because`: slot that the reason names, 0: none */
KERNEL_TYPE enum { SHOWN_SLOT, SHOWN_SAYS, SHOWN_BECAUSE, SHOWN_BITS, SHOWN_SWAPPED, SHOWN_NUMBER, SHOWN_CATEGORY, SHOWN_GROUP };   /* SHOWN_NUMBERS of them */
KERNEL_TYPE enum { COUNT_PLACES, COUNT_FALLBACK, COUNT_RELAXED, COUNT_EXHAUSTED, COUNT_KEPT, COUNT_SCORED, COUNT_PASSED_OVER, COUNT_HELD_BY_CATEGORY,
       COUNT_HELD_BY_OWNER, COUNT_DRAWN, COUNT_EXPLORED, COUNT_RAN, COUNT_STAGES };

/* ---- stages; each returns DONE, or a NEEDS_ and is called again ---- */
int case_open(decision *d);               /* case.c: interest, likeness, vector, impressions */
int sources_retrieve(decision *d);        /* sources.c: entries and candidates at d->deeper */
int rules_eligible(decision *d);          /* rules.c: removed_by, kept; then groups_choose */
/* groups.c: `variants` of the entries, behind them in entry_slot where there is room; how many they are */
int64_t groups_variants(decision *d);
void groups_choose(decision *d);          /* groups.c: one candidate of each group */
int64_t groups_spare(const decision *d, int32_t *numbers, int64_t n);   /* groups.c: `spare`, in place; how many stay */
void case_block(decision *d);             /* case.c: stamps of blocked and latest */
int case_is_blocked(const decision *d, int32_t slot);                   /* Case.blocked */
int case_is_waiting(const decision *d, int32_t slot);                   /* Case.waiting */
int case_is_unwanted(const decision *d, int32_t slot);                  /* the preferences hide this item */
void score_shortlist(decision *d);        /* score.c: sources.shortlist of kept into scored */
int score_all(decision *d);               /* score.c: values, total, coarse_order of d->scored */
int rank_best(decision *d);               /* rank.c: rows, predictions, scores, order */
/* rank.c: rows (n, n_features) of candidates; NEEDS_FEATURES where one is in Python: called again, it has those */
int rank_rows_of(decision *d, const int32_t *numbers, int64_t n, float *rows);
int decision_column(const char *name);    /* columns.c: the code of a column */
/* columns.c: the value of a column for n candidates; 0: None. `code` as decision_column gives it */
int column_value(decision *d, int code, const int32_t *numbers, int64_t n, double *out);
/* columns.c: cosines (n,) of the vectors at slots[numbers[i]], or at slots[i] where numbers is NULL, to `query` */
void column_cosines(const float *vectors, const int32_t *slots, const int32_t *numbers, int64_t n, const float *query,
                    double *out);
void arrange_slate(decision *d);          /* arrange.c */
int arrange_needs_more(decision *d);      /* 0, 1, or -NEEDS_COUNTS */
void arrange_extended(decision *d);       /* of a slate in `places` that was filled: arrange.extended */
int explain_slate(decision *d);           /* explain.c: out_; NEEDS_FEATURES where rank_rows_of does */

/* ---- shared ---- */
/* models/release/trees.c: scores (n,) of rows (n, width) */
int trees_predict(const void *trees, const float *rows, int64_t n, int64_t width, float *out);
static inline int32_t items_locate(const decision_items *t, uint64_t hash) {
    for (uint64_t at = hash & t->places_mask;; at = (at + 1) & t->places_mask) {
        int32_t slot = t->places[at];
        if (!slot || t->hash[slot] == hash) return slot;
    }
}
/* number of the group with this hash; 0: none */
static inline int32_t items_group(const decision_items *t, uint64_t hash) {
    for (uint64_t at = hash & t->group_mask;; at = (at + 1) & t->group_mask) {
        int32_t number = t->group_places[at];
        if (!number || t->group_hashes[number] == hash) return number;
    }
}
/* Memberships.has */
static inline int items_in_category(const decision_items *t, int32_t slot, int64_t category) {
    if (t->category[slot] == category) return 1;
    const int32_t *run = t->member_pool + t->member_starts[slot];
    for (int32_t i = 0; i < t->member_lengths[slot]; i++)
        if (run[i] == category) return 1;
    return 0;
}
static inline int stamped(const decision_stamps *s, uint32_t epoch, int32_t slot) { return s->epoch[slot] == epoch; }
static inline void stamp(decision_stamps *s, uint32_t epoch, int32_t slot, int32_t value) { s->epoch[slot] = epoch, s->value[slot] = value; }
/* Tables.share: popularity of a slot by a mix (shares of the windows), in [0, 1] */
static inline double tables_share(const decision_tables *t, int32_t slot, const double *mix) {
    double share = 0;
    for (int w = 0; w < WINDOWS; w++)
        if (mix[w] != 0) share += t->popularity[(int64_t)slot * WINDOWS + w] / t->maxima[w] * mix[w];
    return share;
}
/* score.c: sorts keys by their bits [from, to), whole bytes, stably; `other`: room for as many */
void sort_keys(uint64_t *keys, uint64_t *other, int64_t n, int from, int to);
/* ascends as the score falls; -0 is 0 where `falls(x + 0.0f)` */
static inline uint32_t falls(float score) {
    int32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits < 0 ? (uint32_t)bits : (uint32_t)~bits & 0x7FFFFFFF;
}
#endif
