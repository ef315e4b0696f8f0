/* What is kept of strangers: strangers.py defines it. */
#include "account.h"
#include "impressions.h"

/* Drops the next thing that goes. Whether there was one. */
static int drop(account *held, uint32_t max_units) {
    slate *first = held->slates;
    if (held->slates_n > 1) {
        memmove(first, first + 1, --held->slates_n * sizeof(slate));
    } else if (held->slates_n && first->slots) {
        if (first->explored >= (int32_t)--first->slots) first->explored = -1;
    } else if (held->slates_n) {
        held->slates_n = 0;
    } else if (held->units_n > max_units) {
        held->units_n = max_units;
    } else {
        return 0;
    }
    return 1;
}

/* A stored account as out_size bytes at out hold it. Its size, or -1: Python has to do it. */
KERNEL int strangers_cut(const uint8_t *stored, size_t size, uint32_t max_units, uint8_t *out,
                         size_t out_size) {
    account held;
    if (!account_read(&held, stored, size) || held.links || held.rest.size || held.touched.size) return -1;
    do {
        writer to = {out, out + out_size, 0};
        account_write(&held, &to);
        if (!to.full) return (int)(to.at - out);
    } while (drop(&held, max_units));
    return -1;
}

/* What the slates of a stored account showed, as impressions_update stores it, at out. Its size, or -1: Python
   has to do it. */
KERNEL int strangers_shown(const uint8_t *stored, size_t size, uint8_t *out) {
    account held;
    uint8_t before[IMPRESSIONS_SIZE];
    int n = 0;
    if (!account_read(&held, stored, size)) return -1;
    for (uint32_t i = 0; i < held.slates_n; i++) {
        const slate *it = &held.slates[i];
        if (!it->slots) continue;
        memcpy(before, out, n);
        n = impressions_update(before, n, (const uint8_t *)(held.items + it->first_slot), it->slots,
                               (uint32_t)(it->at / 1000), out);
        if (n < 0) return -1;
    }
    return n;
}
