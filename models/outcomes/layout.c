/* The bytes of a person's slates: layout.py defines them. */
#include "account.h"

enum { VERSION = 4, HEAD = 28, UNIT = 22, MAX_NARROW = 256, TABLE = 2 * MAX_SLOTS };

typedef struct {
    const uint8_t *at, *end;
    int bad;
} reader;

/* The next n bytes; where there are fewer, the reader is bad, and what is returned is not to be read. */
static const uint8_t *take(reader *from, size_t n) {
    const uint8_t *at = from->at;
    if ((size_t)(from->end - at) < n) from->bad = 1;
    else from->at += n;
    return at;
}

static int read_slates(account *held, reader *from, uint32_t items_n, uint32_t names_n) {
    uint32_t n = held->slates_n, slots = 0, units = 0, differ = 0, wide = 1 + (items_n > MAX_NARROW);
    const uint8_t *items = take(from, 8 * (size_t)items_n), *names = take(from, 4 * (size_t)names_n);
    const uint8_t *ids = take(from, 8 * n), *back = take(from, 4 * n), *named = take(from, n);
    const uint8_t *sizes = take(from, n), *same = take(from, n), *explored = take(from, n);
    const uint8_t *units_n = take(from, n);
    if (from->bad) return 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t ago = load32(back + 4 * i);
        if (named[i] >= names_n || ago > held->newest) return 0;
        held->slates[i] = (slate){
            load64(ids + 8 * i), held->newest - ago, load32(names + 4 * named[i]),
            sizes[i], slots, units_n[i], units, (int32_t)explored[i] - 1};
        if (i && held->slates[i].at <= held->slates[i - 1].at &&
            (held->slates[i].at < held->slates[i - 1].at || load64(ids + 8 * i) < load64(ids + 8 * i - 8)))
            return 0; /* they are in the order (at, id) */
        slots += sizes[i], units += units_n[i];
        if (!same[i]) differ += sizes[i];
    }
    if (slots > MAX_SLOTS || units > MAX_SLATE_UNITS) return 0;
    held->slots_n = slots, held->slate_units_n = units;
    const uint8_t *indices = take(from, (size_t)wide * slots), *states = take(from, differ);
    const uint8_t *its_units = take(from, 2 * (size_t)units);
    if (from->bad) return 0;
    for (uint32_t k = 0; k < slots; k++) {
        uint32_t index = wide == 1 ? indices[k] : load16(indices + 2 * k);
        if (index >= items_n) return 0;
        held->items[k] = load64(items + 8 * (size_t)index);
    }
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *to = held->states + held->slates[i].first_slot;
        if (same[i]) {
            memset(to, same[i], sizes[i]);
        } else {
            memcpy(to, states, sizes[i]);
            states += sizes[i];
        }
    }
    memcpy(held->slate_units, its_units, 2 * (size_t)units);
    return 1;
}

int account_read(account *held, const uint8_t *stored, size_t size) {
    memset(held, 0, offsetof(account, slates));
    held->touched = held->set_sizes = held->sets = held->rest = (span){stored, 0};
    held->new_set = -1;
    if (!size) return 1;
    reader from = {stored, stored + size, 0};
    const uint8_t *head = take(&from, HEAD);
    if (from.bad || head[0] != VERSION || head[1] & ~(REST | TOUCHED | LINKS)) return 0;
    held->links = (head[1] & LINKS) != 0;
    held->slates_n = head[2];
    held->units_n = load16(head + 6), held->sets_n = load16(head + 8);
    size_t touched_n = load16(head + 10);
    held->newest = load64(head + 12), held->since = load64(head + 20);
    if (held->slates_n > MAX_OPEN_SLATES || held->units_n > MAX_UNITS) return 0;
    if (held->sets_n > MAX_UNIT_SETS || touched_n > MAX_TOUCHED) return 0;
    if (held->newest > MAX_TIME || held->since > MAX_TIME) return 0;
    if (!read_slates(held, &from, load16(head + 4), head[3])) return 0;
    const uint8_t *units = take(&from, (size_t)UNIT * held->units_n);
    held->touched = (span){take(&from, TOUCHED_SIZE * touched_n), TOUCHED_SIZE * touched_n};
    held->set_sizes = (span){take(&from, held->sets_n), held->sets_n};
    if (from.bad) return 0;
    for (uint32_t i = 0; i < held->units_n; i++, units += UNIT) {
        unit *it = &held->units[i];
        it->experiment = load32(units), it->variant = load32(units + 4);
        it->version = load16(units + 8);
        for (int k = 0; k < STATES; k++) it->counts[k] = load16(units + 10 + 2 * k);
    }
    for (uint32_t i = 0; i < held->sets_n; i++) held->sets.size += 2 * held->set_sizes.at[i];
    held->sets.at = take(&from, held->sets.size);
    held->rest = (span){from.at, from.end - from.at};
    return !from.bad && !held->rest.size == !(head[1] & REST) &&
           !held->touched.size == !(head[1] & TOUCHED);
}

static uint32_t name_placements(const account *held, uint32_t *names, uint8_t *of) {
    uint32_t n = 0, place;
    for (uint32_t i = 0; i < held->slates_n; i++) {
        for (place = 0; place < n && names[place] != held->slates[i].placement; place++) {}
        if (place == n) names[n++] = held->slates[i].placement;
        of[i] = place;
    }
    return n;
}

typedef struct {
    uint16_t table[TABLE]; /* index + 1; 0: free */
    uint32_t mask, n;
} namer;

static void begin(namer *held, uint32_t slots) {
    held->mask = 15, held->n = 0;
    while (held->mask + 1 < 2 * slots && held->mask + 1 < TABLE) held->mask = 2 * held->mask + 1;
    memset(held->table, 0, sizeof(uint16_t) * (held->mask + 1));
}

/* The index of an item among the names, each once, in the order in which they came. */
static uint16_t name(namer *held, uint64_t item, uint64_t *names) {
    uint32_t at = (uint32_t)((item * 0x9E3779B97F4A7C15u) >> 40) & held->mask;
    while (held->table[at] && names[held->table[at] - 1] != item) at = (at + 1) & held->mask;
    if (!held->table[at]) {
        names[held->n] = item;
        held->table[at] = ++held->n;
    }
    return held->table[at] - 1;
}

/* The names of all slates' items, and of each of them its index. A slate that is dropped leaves a gap among
   the slots. */
static uint32_t name_items(const account *held, uint64_t *names, uint16_t *of) {
    namer by;
    uint32_t total = 0, used = 0;
    for (uint32_t i = 0; i < held->slates_n; i++) total += held->slates[i].slots;
    begin(&by, total);
    for (uint32_t i = 0; i < held->slates_n; i++)
        for (uint32_t k = 0; k < held->slates[i].slots; k++)
            of[used++] = name(&by, held->items[held->slates[i].first_slot + k], names);
    return by.n;
}

/* The same of n items, at most MAX_SLOTS: names u8, indices u2. */
KERNEL uint32_t layout_name(const uint8_t *items, size_t n, uint8_t *names, uint8_t *indices) {
    namer by;
    uint64_t found[MAX_SLOTS];
    begin(&by, n);
    for (size_t i = 0; i < n; i++) store16(indices + 2 * i, name(&by, load64(items + 8 * i), found));
    memcpy(names, found, 8 * (size_t)by.n);
    return by.n;
}

/* The state of all of a slate's items; 0: they differ. */
static uint8_t same_state(const account *held, const slate *it) {
    const uint8_t *states = held->states + it->first_slot;
    for (uint32_t k = 1; k < it->slots; k++)
        if (states[k] != *states) return 0;
    return it->slots ? *states : 0;
}

static void write_slates(const account *held, writer *to, uint32_t items_n, const uint16_t *item_of,
                         const uint8_t *placement_of) {
    uint32_t n = held->slates_n, slots = 0;
    uint8_t *ids = room(to, 8 * n), *back = room(to, 4 * n), *columns = room(to, 5 * n);
    if (to->full) return;
    for (uint32_t i = 0; i < n; i++) {
        const slate *it = &held->slates[i];
        uint64_t ago = held->newest - it->at;
        if (ago > UINT32_MAX || it->slots > UINT8_MAX || it->units > UINT8_MAX) to->full = 1;
        if (it->explored >= UINT8_MAX) to->full = 1;
        store64(ids + 8 * i, it->id);
        store32(back + 4 * i, ago);
        columns[i] = placement_of[i], columns[n + i] = it->slots;
        columns[2 * n + i] = same_state(held, it), columns[3 * n + i] = it->explored + 1;
        columns[4 * n + i] = it->units;
        slots += it->slots;
    }
    uint32_t wide = 1 + (items_n > MAX_NARROW);
    uint8_t *indices = room(to, (size_t)wide * slots);
    for (uint32_t k = 0; indices && k < slots; k++) {
        if (wide == 1) indices[k] = item_of[k];
        else store16(indices + 2 * k, item_of[k]);
    }
    for (uint32_t i = 0; i < n; i++)
        if (!columns[2 * n + i])
            put_bytes(to, held->states + held->slates[i].first_slot, held->slates[i].slots);
    for (uint32_t i = 0; i < n; i++)
        put_bytes(to, held->slate_units + held->slates[i].first_unit, 2 * held->slates[i].units);
}

static void write_units(const account *held, writer *to) {
    for (uint32_t i = 0; i < held->units_n; i++) {
        const unit *it = &held->units[i];
        uint8_t *at = room(to, UNIT);
        if (!at) return;
        store32(at, it->experiment), store32(at + 4, it->variant), store16(at + 8, it->version);
        for (int k = 0; k < STATES; k++) {
            if (it->counts[k] > UINT16_MAX) to->full = 1;
            store16(at + 10 + 2 * k, it->counts[k]);
        }
    }
}

void account_write(const account *held, writer *to) {
    uint64_t items[MAX_SLOTS];
    uint16_t item_of[MAX_SLOTS];
    uint32_t names[MAX_OPEN_SLATES + 1];
    uint8_t placement_of[MAX_OPEN_SLATES + 1];
    uint32_t items_n = name_items(held, items, item_of);
    uint32_t names_n = name_placements(held, names, placement_of);
    uint8_t *head = room(to, HEAD);
    if (!head) return;
    head[0] = VERSION;
    head[1] = (held->rest.size ? REST : 0) | (held->touched.size ? TOUCHED : 0) |
              (held->links ? LINKS : 0);
    head[2] = held->slates_n, head[3] = names_n;
    store16(head + 4, items_n), store16(head + 6, held->units_n), store16(head + 8, held->sets_n);
    store16(head + 10, held->touched.size / TOUCHED_SIZE);
    store64(head + 12, held->newest), store64(head + 20, held->since);
    put_bytes(to, items, 8 * (size_t)items_n);
    put_bytes(to, names, 4 * (size_t)names_n);
    write_slates(held, to, items_n, item_of, placement_of);
    write_units(held, to);
    put_bytes(to, held->touched.at, held->touched.size);
    put_bytes(to, held->set_sizes.at, held->set_sizes.size);
    const slate *new = held->new_set >= 0 ? &held->slates[held->new_set] : NULL;
    uint8_t size = new ? new->units : 0;
    if (new) put_bytes(to, &size, 1);
    put_bytes(to, held->sets.at, held->sets.size);
    if (new) put_bytes(to, held->slate_units + new->first_unit, 2 * (size_t)size);
    put_bytes(to, held->rest.at, held->rest.size);
}

int32_t account_unit_set(account *held, uint32_t place) {
    const slate *it = &held->slates[place];
    const uint8_t *set = held->sets.at, *units = (const uint8_t *)(held->slate_units + it->first_unit);
    for (uint32_t i = 0; i < held->sets_n; i++) {
        size_t n = held->set_sizes.at[i];
        if (n == it->units && !memcmp(set, units, 2 * n)) return i;
        set += 2 * n;
    }
    if (held->sets_n >= MAX_UNIT_SETS) return -1;
    held->new_set = place;
    return held->sets_n++;
}
