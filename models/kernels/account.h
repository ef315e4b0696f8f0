/* A person's slates as their stored bytes hold them (models/outcomes/layout.py). Bounds of what the compiled
   fold takes: Python folds the people who have more. */
#ifndef FRESHET_ACCOUNT_H
#define FRESHET_ACCOUNT_H
#include "kernel.h"

enum {
    MAX_OPEN_SLATES = 20,
    MAX_SLOTS = 2048, /* of all slates */
    MAX_SLATE_UNITS = 512, /* of all slates */
    MAX_UNITS = 256,
    MAX_UNIT_SETS = 200,
    MAX_TOUCHED = 1024,
    TOUCHED_SIZE = 24,
    STATES = 6,
};
#define MAX_TIME (UINT64_MAX >> 2) /* ms */
enum { OTHERS = 1, REST = 2, TOUCHED = 4, LINKS = 8 }; /* flags */

typedef struct {
    uint64_t id, at;
    uint32_t placement, slots, first_slot, units, first_unit;
    int32_t explored; /* -1: none */
} slate;

typedef struct {
    uint32_t experiment, variant, version;
    uint32_t counts[STATES];
} unit;

typedef struct {
    const uint8_t *at;
    size_t size;
} span;

typedef struct {
    uint64_t newest, since;
    uint32_t slates_n, slots_n, slate_units_n, units_n, sets_n;
    uint8_t links; /* whether there are */
    slate slates[MAX_OPEN_SLATES + 1];
    uint64_t items[MAX_SLOTS];
    uint8_t states[MAX_SLOTS];
    uint16_t slate_units[MAX_SLATE_UNITS];
    unit units[MAX_UNITS];
    span touched, set_sizes, sets, rest; /* as stored */
    int32_t new_set; /* index of a slate whose units are one more set; -1: none */
} account;

/* writes to [at, end); full: it did not fit */
typedef struct {
    uint8_t *at, *end;
    int full;
} writer;

static inline uint8_t *room(writer *to, size_t n) {
    if ((size_t)(to->end - to->at) < n) {
        to->full = 1;
        return NULL;
    }
    uint8_t *at = to->at;
    to->at += n;
    return at;
}

static inline void put_bytes(writer *to, const void *from, size_t n) {
    uint8_t *at = n ? room(to, n) : NULL;
    if (at) memcpy(at, from, n);
}

/* Whether these bytes, none: a new account, are an account that the compiled fold takes. */
int account_read(account *held, const uint8_t *stored, size_t size);
void account_write(const account *held, writer *to);
/* The index of a slate's units among the sets, which may become one more; -1: there are too many. */
int32_t account_unit_set(account *held, uint32_t slate);

#endif
