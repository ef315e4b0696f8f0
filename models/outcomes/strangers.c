/* What is kept of strangers: strangers.py defines it. */
#include "account.h"
#include "impressions.h"

enum {
    PACKED_HEAD = 13, PACKED_UNIT = 12, PACKED_SLATE = 19,
    PACKED_SLATES = 14, PACKED_UNITS = 8, PACKED_SLATE_ITEMS = 127, INDEXED = 128,
};

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

/* The index of each slot's item among the items, each once, at items. Their number; -1: too many. */
static int32_t index_items(const account *held, uint64_t *items, uint8_t *of) {
    uint32_t n = 0, at = 0;
    for (uint32_t i = 0; i < held->slates_n; i++)
        for (uint32_t k = 0; k < held->slates[i].slots; k++) {
            uint64_t item = held->items[held->slates[i].first_slot + k];
            uint32_t place = 0;
            while (place < n && items[place] != item) place++;
            if (place == UINT8_MAX) return -1;
            if (place == n) items[n++] = item;
            of[at++] = place;
        }
    return n;
}

/* The units of a slate, a bit each; -1: they are not in order. */
static int32_t mask_of(const account *held, const slate *it) {
    int32_t mask = 0;
    for (uint32_t k = 0; k < it->units; k++) {
        uint32_t place = held->slate_units[it->first_unit + k];
        if (place >= held->units_n || mask >> place) return -1;
        mask |= 1 << place;
    }
    return mask;
}

static int is_packable(const account *held) {
    if (held->links || held->rest.size || held->touched.size || held->sets_n) return 0;
    if (held->slates_n > PACKED_SLATES || held->units_n > PACKED_UNITS) return 0;
    if (held->newest >> 48 || held->newest < held->since || (held->newest - held->since) >> 40) return 0;
    for (uint32_t i = 0; i < held->units_n; i++)
        for (int k = 1; k < STATES; k++)
            if (held->units[i].counts[k]) return 0;
    for (uint32_t i = 0; i < held->slates_n; i++) {
        const slate *it = &held->slates[i];
        if (it->slots > PACKED_SLATE_ITEMS || mask_of(held, it) < 0) return 0;
        for (uint32_t k = 0; k < it->slots; k++)
            if (held->states[it->first_slot + k] != 1) return 0;
    }
    return 1;
}

/* A stored account, packed, at out. Its size; -1: Python has to do it. */
KERNEL int strangers_pack(const uint8_t *stored, size_t size, uint8_t *out, size_t out_size) {
    account held;
    uint64_t items[UINT8_MAX];
    uint8_t indices[MAX_SLOTS];
    writer to = {out, out + out_size, 0};
    if (!size || !account_read(&held, stored, size) || !is_packable(&held)) return -1;
    int32_t items_n = index_items(&held, items, indices);
    uint8_t *head = room(&to, PACKED_HEAD);
    if (items_n < 0 || !head) return -1;
    uint64_t since = held.newest - held.since;
    head[0] = held.units_n | held.slates_n << 4, head[1] = items_n;
    store32(head + 2, held.newest), store16(head + 6, held.newest >> 32);
    store32(head + 8, since), head[12] = since >> 32;
    for (uint32_t i = 0; i < held.units_n; i++) {
        const unit *it = &held.units[i];
        uint8_t *at = room(&to, PACKED_UNIT);
        if (!at) return -1;
        store32(at, it->experiment), store16(at + 4, it->version), store32(at + 6, it->variant);
        store16(at + 10, it->counts[0]);
    }
    put_bytes(&to, items, 8 * (size_t)items_n);
    const uint8_t *of = indices;
    for (uint32_t i = 0; i < held.slates_n; of += held.slates[i++].slots) {
        const slate *it = &held.slates[i];
        uint8_t *at = room(&to, PACKED_SLATE), indexed = 0;
        if (!at) return -1;
        for (uint32_t k = 0; k < it->slots; k++)
            if (of[k] != k) indexed = INDEXED;
        store64(at, it->id), store32(at + 8, held.newest - it->at), store32(at + 12, it->placement);
        at[16] = it->slots | indexed, at[17] = it->explored + 1, at[18] = mask_of(&held, it);
        if (indexed) put_bytes(&to, of, it->slots);
    }
    return to.full ? -1 : (int)(to.at - out);
}

/* The stored account of a packed one, at out. Its size; -1: Python has to do it, or refuses it. */
KERNEL int strangers_unpack(const uint8_t *packed, size_t size, uint8_t *out, size_t out_size) {
    account held;
    writer to = {out, out + out_size, 0};
    if (size < PACKED_HEAD || packed[0] == UINT8_MAX || !account_read(&held, NULL, 0)) return -1;
    uint32_t units = packed[0] & 15, slates = packed[0] >> 4, items_n = packed[1];
    uint64_t since = load32(packed + 8) | (uint64_t)packed[12] << 32;
    held.newest = load32(packed + 2) | (uint64_t)load16(packed + 6) << 32;
    size_t at = PACKED_HEAD, items_at = at + PACKED_UNIT * units;
    if (units > PACKED_UNITS || since > held.newest || items_at + 8 * items_n > size) return -1;
    held.since = held.newest - since;
    for (; held.units_n < units; at += PACKED_UNIT) {
        unit *it = &held.units[held.units_n++];
        *it = (unit){load32(packed + at), load32(packed + at + 6), load16(packed + at + 4), {0}};
        it->counts[0] = load16(packed + at + 10);
    }
    for (at = items_at + 8 * items_n; held.slates_n < slates;) {
        if (size - at < PACKED_SLATE) return -1;
        const uint8_t *from = packed + at;
        uint32_t n = from[16] & PACKED_SLATE_ITEMS, ago = load32(from + 8), mask = from[18];
        const uint8_t *indices = from[16] & INDEXED ? from + PACKED_SLATE : NULL;
        at += PACKED_SLATE;
        if (ago > held.newest || from[17] > n || mask >> units) return -1;
        if (indices && (size - at < n)) return -1;
        slate *it = &held.slates[held.slates_n++];
        *it = (slate){load64(from), held.newest - ago, load32(from + 12), n, held.slots_n, 0,
                      held.slate_units_n, (int32_t)from[17] - 1};
        for (uint32_t k = 0; k < n; k++) {
            uint32_t index = indices ? indices[k] : k;
            if (index >= items_n) return -1;
            held.items[held.slots_n] = load64(packed + items_at + 8 * index);
            held.states[held.slots_n++] = 1;
        }
        for (uint32_t k = 0; k < units; k++)
            if (mask >> k & 1) held.slate_units[held.slate_units_n++] = k, it->units++;
        at += indices ? n : 0;
    }
    if (at != size) return -1;
    account_write(&held, &to);
    return to.full ? -1 : (int)(to.at - out);
}
