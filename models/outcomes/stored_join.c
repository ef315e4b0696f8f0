/* The join of slates with what people do, on stored bytes: stored_join.py defines it. */
#include "account.h"

enum { SERVED = 0, CLICKED = 2, WINDOW_MS = 86400000, ARM_SIZE = 23, MOMENT_SIZE = 62 };
enum { DONE = 0, NOT_IN_SLATE = 1, LATE = 2, REPEATED = 3, NOT_TAKEN = -1 };
enum { SERVED_SIZE = 28, ASSIGNED_SIZE = 10 };

static void put_arm(writer *to, uint32_t delta, uint32_t placement, uint64_t item, int state,
                    int explored) {
    uint8_t *at = room(to, ARM_SIZE);
    if (!at) return;
    float reward = state == CLICKED;
    store32(at, delta), store32(at + 4, placement), store64(at + 8, item);
    at[16] = state, at[17] = explored, at[18] = 1;
    memcpy(at + 19, &reward, 4);
}

/* Adds n to the counts of the slate's units. Whether they can be counted so. */
static int count_units(account *held, const slate *it, int state, uint32_t n, uint32_t delta,
                       writer *to) {
    for (uint32_t k = 0; n && k < it->units; k++) {
        uint32_t place = held->slate_units[it->first_unit + k];
        if (place >= held->units_n) continue; /* as conversions.count_units */
        unit *of = &held->units[place];
        uint8_t *at = room(to, MOMENT_SIZE);
        if (!at || of->counts[state] > UINT32_MAX - n) return 0;
        store32(at, delta), store32(at + 4, of->experiment);
        store16(at + 8, of->version), store32(at + 10, of->variant);
        memcpy(at + 14, of->counts, sizeof of->counts);
        of->counts[state] += n;
        memcpy(at + 38, of->counts, sizeof of->counts);
    }
    return 1;
}

/* The index of the unit, new where there is none; -1: Python has to say that its variant changed, or there
   are too many. */
static int32_t enrolled(account *held, const uint8_t *assigned) {
    uint32_t experiment = load32(assigned), version = load16(assigned + 4),
             variant = load32(assigned + 6);
    for (uint32_t i = 0; i < held->units_n; i++)
        if (held->units[i].experiment == experiment && held->units[i].version == version)
            return held->units[i].variant == variant ? (int32_t)i : -1;
    if (held->units_n == MAX_UNITS) return -1;
    held->units[held->units_n] = (unit){experiment, variant, version, {0}};
    return held->units_n++;
}

static int has_slate(const account *held, uint64_t id) {
    for (uint32_t i = 0; i < held->slates_n; i++)
        if (held->slates[i].id == id) return 1;
    return 0;
}

/* The slate of a served record, in no place yet. Whether the compiled fold takes it. */
static int open_slate(account *held, slate *new, const uint8_t *record, size_t size) {
    if (size < SERVED_SIZE) return 0;
    uint32_t rank = load32(record + 20), n = load16(record + 24), assigned = load16(record + 26);
    const uint8_t *items = record + SERVED_SIZE, *drawn = items + 8 * (size_t)n;
    if (size != SERVED_SIZE + 8 * (size_t)n + ASSIGNED_SIZE * (size_t)assigned) return 0;
    if (n > MAX_SLOTS - held->slots_n || rank > n) return 0;
    if (assigned > MAX_SLATE_UNITS - held->slate_units_n) return 0;
    *new = (slate){
        load64(record), load64(record + 8), load32(record + 16),
        0, held->slots_n, 0, held->slate_units_n, -1};
    uint64_t *slots = held->items + new->first_slot;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t item = load64(items + 8 * i);
        uint32_t k = 0;
        while (k < new->slots && slots[k] != item) k++;
        if (k == new->slots) slots[new->slots++] = item;
        if (i + 1 == rank) new->explored = k;
    }
    memset(held->states + new->first_slot, 1 << SERVED, new->slots);
    held->slots_n += new->slots;
    uint16_t *units = held->slate_units + new->first_unit;
    for (uint32_t i = 0; i < assigned; i++) {
        int32_t place = enrolled(held, drawn + ASSIGNED_SIZE * i);
        uint32_t k = 0;
        if (place < 0) return 0;
        while (k < new->units && units[k] != place) k++;
        if (k == new->units) units[new->units++] = place;
    }
    held->slate_units_n += new->units;
    return 1;
}

static void insert(account *held, const slate *new) {
    uint32_t at = held->slates_n++;
    for (; at; at--) {
        const slate *before = &held->slates[at - 1];
        if (before->at < new->at || (before->at == new->at && before->id <= new->id)) break;
        held->slates[at] = *before;
    }
    held->slates[at] = *new;
}

static void drop_old(account *held) {
    uint32_t gone = 0;
    while (gone < held->slates_n && held->slates[gone].at + WINDOW_MS < held->newest) gone++;
    if (held->slates_n - gone > MAX_OPEN_SLATES) gone = held->slates_n - MAX_OPEN_SLATES;
    held->slates_n -= gone;
    memmove(held->slates, held->slates + gone, held->slates_n * sizeof(slate));
}

static int done(const account *held, uint8_t *out, writer *to, uint32_t *sizes) {
    /* the facts come first */
    account_write(held, to);
    sizes[2] = to->at - out;
    return to->full ? NOT_TAKEN : DONE;
}

/* Adds a served slate (stored_join.served_record) to an account. out: its facts of arms up to sizes[0], of
   moments up to sizes[1], the account up to sizes[2]. DONE or NOT_TAKEN: Python has to do it. */
KERNEL int outcomes_serve(const uint8_t *stored, size_t stored_size, const uint8_t *record,
                          size_t record_size, uint32_t delta, uint8_t *out, size_t out_size,
                          uint32_t *sizes) {
    account held;
    slate new;
    writer to = {out, out + out_size, 0};
    if (!account_read(&held, stored, stored_size)) return NOT_TAKEN;
    if (!open_slate(&held, &new, record, record_size)) return NOT_TAKEN;
    if (has_slate(&held, new.id) || new.at > MAX_TIME) return NOT_TAKEN;
    /* a first slate, or an earlier one, may change what readers know of the links */
    if (held.links && (!held.since || new.at < held.since)) return NOT_TAKEN;
    for (uint32_t i = 0; i < new.slots; i++)
        put_arm(&to, delta, new.placement, held.items[new.first_slot + i], SERVED,
                (int32_t)i == new.explored);
    sizes[0] = to.at - out;
    if (!count_units(&held, &new, SERVED, new.slots, delta, &to)) return NOT_TAKEN;
    sizes[1] = to.at - out;
    insert(&held, &new);
    if (held.newest < new.at) held.newest = new.at;
    if (!held.since || new.at < held.since) held.since = new.at;
    drop_old(&held);
    return done(&held, out, &to, sizes);
}

static int is_before(const uint8_t *row, uint32_t at, uint32_t slate_low, uint64_t item) {
    uint32_t its_at = load32(row + 8), its_slate = load32(row + 16);
    if (its_at != at) return its_at < at;
    if (its_slate != slate_low) return its_slate < slate_low;
    return load64(row) <= item;
}

/* touched.touch: the rows with this one among them, at rows; their bytes, 0: too many. */
static size_t touch(span before, uint8_t *rows, uint8_t *new, uint32_t most, uint32_t window_s) {
    size_t size = 0, place = SIZE_MAX;
    uint32_t low = load32(new + 16);
    uint64_t item = load64(new);
    for (size_t at = 0; at < before.size; at += TOUCHED_SIZE) {
        const uint8_t *row = before.at + at;
        if (place == SIZE_MAX && load64(row) == item && load32(row + 16) == low) {
            place = at;
            if (row[22] >> CLICKED & 1) store32(new + 8, load32(row + 8));
            continue;
        }
        memcpy(rows + size, row, TOUCHED_SIZE);
        size += TOUCHED_SIZE;
    }
    size_t at = size;
    while (at && !is_before(rows + at - TOUCHED_SIZE, load32(new + 8), low, item))
        at -= TOUCHED_SIZE;
    memmove(rows + at + TOUCHED_SIZE, rows + at, size - at);
    memcpy(rows + at, new, TOUCHED_SIZE);
    size += TOUCHED_SIZE;
    size_t first = size > (size_t)most * TOUCHED_SIZE ? size - (size_t)most * TOUCHED_SIZE : 0;
    int64_t oldest = (int64_t)load32(rows + size - TOUCHED_SIZE + 8) - window_s;
    while (first + TOUCHED_SIZE < size && load32(rows + first + 8) < oldest) first += TOUCHED_SIZE;
    memmove(rows, rows + first, size - first);
    return size - first;
}

/* Brings a slot of an open slate into the state displayed or clicked, at a time in ms, and keeps it among the
   newest touched slots (touched.Reach: most, window_s). out, sizes: as of outcomes_serve, where it is DONE;
   else why it does not count, or NOT_TAKEN. */
KERNEL int outcomes_act(const uint8_t *stored, size_t stored_size, uint64_t id, uint64_t item,
                        uint32_t state, uint64_t at, uint32_t most, uint32_t window_s,
                        uint32_t delta, uint8_t *out, size_t out_size, uint32_t *sizes) {
    account held;
    uint8_t rows[TOUCHED_SIZE * (MAX_TOUCHED + 1)], new[TOUCHED_SIZE];
    writer to = {out, out + out_size, 0};
    if (!most || state > CLICKED || at / 1000 > UINT32_MAX) return NOT_TAKEN;
    if (!account_read(&held, stored, stored_size)) return NOT_TAKEN;
    uint32_t i = held.slates_n, k = 0;
    while (i && held.slates[i - 1].id != id) i--;
    if (!i) return NOT_TAKEN;
    const slate *it = &held.slates[--i];
    while (k < it->slots && held.items[it->first_slot + k] != item) k++;
    if (k == it->slots) return NOT_IN_SLATE;
    if (at > it->at + WINDOW_MS) return LATE;
    uint8_t *states = &held.states[it->first_slot + k];
    if (*states >> state & 1) return REPEATED;
    *states |= 1 << state;
    int32_t set = account_unit_set(&held, i);
    if (set < 0) return NOT_TAKEN;
    store64(new, item), store32(new + 8, at / 1000), store32(new + 12, it->placement);
    store32(new + 16, it->id), store16(new + 20, set);
    new[22] = *states, new[23] = (int32_t)k == it->explored;
    held.touched.size = touch(held.touched, rows, new, most, window_s);
    held.touched.at = rows;
    put_arm(&to, delta, it->placement, item, state, (int32_t)k == it->explored);
    sizes[0] = to.at - out;
    if (!count_units(&held, it, state, 1, delta, &to)) return NOT_TAKEN;
    sizes[1] = to.at - out;
    return done(&held, out, &to, sizes);
}

/* The columns of n rows, of these widths, one after the other, at out. */
KERNEL void outcome_columns(const uint8_t *rows, size_t n, const uint8_t *widths, size_t columns,
                            uint8_t *out) {
    size_t size = 0;
    for (size_t k = 0; k < columns; k++) size += widths[k];
    for (size_t k = 0; k < columns; rows += widths[k++])
        for (size_t i = 0; i < n; i++, out += widths[k]) memcpy(out, rows + i * size, widths[k]);
}
