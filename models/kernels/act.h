/* A batch of actions while it is folded into people's rows: what the C files of models/features share. */
#ifndef FRESHET_ACT_H
#define FRESHET_ACT_H
#include "kernel.h"

#define RING_SIZE 50
#define ENTRY_SIZE 24
#define MAX_LAG 16
#define MAX_PARTNERS 10
#define MAX_FIELDS 8 /* of a feature */
#define DAY_MS 86400000
#define GAP_MS 1800000

/* Bits of an entry, of a row and of a pair's lag; verdicts (models.features.act). */
#define IN_SESSION 1
#define COUNTED 2
#define ROW_HAS_OVERFLOW 2
#define SAME_SESSION 0x80
enum verdict { FACT, OVER_DAILY_CAP, OVER_DAILY_LIMIT };

/* Where fields lie in a row, bytes (models.features.registry.ROW). */
struct layout { int32_t size, version, flags, n, ring, days; };

/* What Python reads first: numbers of rows, and bytes from the beginning to each column. */
struct made {
    int64_t people_n, facts_n, pairs_n, evicted_n, kept_n;
    int64_t people, recent_changed, verdict, at, pairs, partner, lag, evicted_at, evicted, late;
    int64_t changes, added, order, in_order, session_rank, repeats, met, end;
};

/* n actions, indexed in the order given, and U people, ascending by slot. It lies at the beginning of one
   block of memory, with all columns that it points to behind it. */
struct act {
    struct made made;
    struct layout layout;
    int64_t n;
    uint8_t *rows;
    uint16_t row_version;
    const uint8_t *recent, *informative; /* by code, 256 each */
    const int64_t *slot, *time, *received;
    const uint64_t *item, *session;
    const uint32_t *category, *identity;
    const uint8_t *action;
    const int64_t *overflow; /* (overflow_n, 4): slot, address of its numbers, how many, those of place 0 */
    int64_t overflow_n;
    /* columns that are made here */
    uint32_t *order, *other, *start; /* sorted by (slot, index); start: (U + 1,) */
    int64_t *people, *session_rank, *at, *evicted_at;
    uint8_t *recent_changed, *late, *in_order, *verdict, *repeats, *met;
    uint8_t *pairs, *pairs_of; /* of facts; of actions */
    uint8_t *evicted;
    uint32_t *pair_start;
    uint64_t *partner, *partner_of; /* of facts in the order given; of actions in the order folded */
    uint8_t *lag, *lag_of;
    uint32_t *added;
    int64_t *changes; /* (kept_n, 4): slot, dropped places as bits, first of `added`, how many */
    int64_t found_n, added_n; /* pairs in `partner_of`, numbers in `added` */
};

/* A feature: folds the actions of person `who` (0 to U - 1), in the order of the log. `at`: where its fields
   lie in a row, in the order in which they are declared. */
typedef void fold_feature(struct act *a, int64_t who, const int32_t *at);

static inline uint8_t *row_of(const struct act *a, int64_t who) {
    return a->rows + a->people[who] * a->layout.size;
}

/* An entry of the list of recent actions (models.features.ring.ENTRY). */
static inline uint64_t entry_item(const uint8_t *e) { return load64(e); }
static inline int64_t entry_time(const uint8_t *e) {
    return (int64_t)load32(e + 8) * 1000 + load16(e + 12);
}
static inline uint32_t entry_category(const uint8_t *e) { return load32(e + 14); }
static inline uint32_t entry_identity(const uint8_t *e) { return load32(e + 18); }
static inline uint8_t entry_action(const uint8_t *e) { return e[22]; }
static inline uint8_t entry_flags(const uint8_t *e) { return e[23]; }
static inline int entry_after(const uint8_t *a, const uint8_t *b) {
    if (entry_time(a) != entry_time(b)) return entry_time(a) > entry_time(b);
    if (entry_item(a) != entry_item(b)) return entry_item(a) > entry_item(b);
    if (entry_category(a) != entry_category(b)) return entry_category(a) > entry_category(b);
    if (entry_action(a) != entry_action(b)) return entry_action(a) > entry_action(b);
    if (entry_identity(a) != entry_identity(b)) return entry_identity(a) > entry_identity(b);
    return entry_flags(a) > entry_flags(b);
}

/* The list of one person: `n` entered it ever, it holds `size`; `newest`: the slot of the newest entry. */
struct list { uint8_t *ring; int64_t n; int size, newest; };
static inline struct list list_of(const struct act *a, uint8_t *row) {
    int64_t n = load32(row + a->layout.n);
    struct list list = {row + a->layout.ring, n, n < RING_SIZE ? (int)n : RING_SIZE,
                        (int)((n + RING_SIZE - 1) % RING_SIZE)};
    return list;
}
/* The slot `age` back from the newest; -1: the next one. */
static inline uint8_t *aged(const struct list *list, int age) {
    int slot = list->newest - age;
    slot += slot < 0 ? RING_SIZE : slot >= RING_SIZE ? -RING_SIZE : 0;
    return list->ring + slot * ENTRY_SIZE;
}

/* days.c: the two days of a person, and what is kept of them beyond the list (models.features.overflow). */
struct days {
    int64_t day[2], sizes[2], stored[2];
    const uint32_t *held;
    int64_t held_n;
    uint32_t *added;
    int64_t added_n;
    int dropped; /* places of `held` as bits */
};
void days_begin(struct days *days, struct act *a, int64_t who);
int days_enter(struct days *days, int64_t time);
int days_count(const struct days *days, uint64_t item, int place);
int days_full(const struct days *days, int place);
void days_keep(struct days *days, const uint8_t *entry);
void days_end(const struct days *days, struct act *a, int64_t who);

/* window.c: adds the partners of action i, whose entry is `entry`, to `partner_of`. */
void window_pair(struct act *a, const struct list *list, uint32_t i, const uint8_t *entry);

#endif
