/* models/features/stored.py: rows as they are stored */
#include "act.h"

enum form { PLAIN = 1, SECONDS = 2, PAIRED = 4 };
#define HEADER 6 /* version, form, entries, categories, kinds */
#define MAX_PAIRED 16
#define MAX_TIME (UINT64_C(4294967295) * 1000 + 999)

/* What precedes the ring has `fixed` bytes, of which the first two are the version. */
struct shape { int32_t size, fixed, n, version; };

#define BUCKETS 128

/* Distinct values in the order of their appearance, and the place of each among them in ascending order.
   `bucket`: by hash, 1 + the index of a value. */
struct table { uint32_t value[RING_SIZE]; uint8_t place[RING_SIZE], bucket[BUCKETS]; int n; };

static void begin(struct table *table) {
    memset(table->bucket, 0, sizeof table->bucket);
    table->n = 0;
}

static uint8_t find(struct table *table, uint32_t value) {
    uint32_t at = value * 0x9E3779B1u >> 25;
    for (; table->bucket[at]; at = (at + 1) % BUCKETS)
        if (table->value[table->bucket[at] - 1] == value) return (uint8_t)(table->bucket[at] - 1);
    table->value[table->n] = value;
    table->bucket[at] = (uint8_t)++table->n;
    return (uint8_t)(table->n - 1);
}

static void order(struct table *table) {
    uint64_t sorted[RING_SIZE]; /* value, index */
    for (int k = 0; k < table->n; k++) {
        uint64_t one = (uint64_t)table->value[k] << 8 | (uint64_t)k;
        int at = k;
        for (; at > 0 && sorted[at - 1] > one; at--) sorted[at] = sorted[at - 1];
        sorted[at] = one;
    }
    for (int k = 0; k < table->n; k++) table->place[sorted[k] & 255] = (uint8_t)k;
}

static uint32_t kind_of(const uint8_t *entry) {
    return entry_action(entry) | (uint32_t)entry_flags(entry) << 4;
}

/* LEB128 of a value below 2^49; writes 8 bytes, of which the last may be no part of it. */
static uint8_t *put_number(uint8_t *out, uint64_t value) {
    int more = (63 - __builtin_clzll(value | 1)) / 7;
    uint64_t bytes = (value & 127) | (value & 127 << 7) << 1 | (value & 127 << 14) << 2 | (value & 127 << 21) << 3;
    if (more > 3)
        for (int k = 4; k < 7; k++) bytes |= (value >> 7 * k & 127) << 8 * k;
    store64(out, bytes | (UINT64_C(0x80808080808080) & ((UINT64_C(1) << 8 * more) - 1)));
    return out + more + 1;
}

static uint8_t *pack_plain(const uint8_t *row, const struct shape *shape, int entries, uint8_t *out) {
    size_t rest = (size_t)shape->fixed - 2 + (size_t)entries * ENTRY_SIZE;
    out[2] = PLAIN;
    memcpy(out + 3, row + 2, rest);
    return out + 3 + rest;
}

static uint8_t *pack(const uint8_t *row, const struct shape *shape, uint8_t *out) {
    uint32_t n = load32(row + shape->n);
    int count = n < RING_SIZE ? (int)n : RING_SIZE, oldest = (int)((n - (uint32_t)count) % RING_SIZE);
    const uint8_t *entry[RING_SIZE];
    uint8_t category[RING_SIZE], kind[RING_SIZE];
    int64_t before = 0;
    struct table categories, kinds;
    int seconds = 1;
    store16(out, load16(row));
    begin(&categories);
    begin(&kinds);
    for (int k = 0; k < count; k++) {
        entry[k] = row + shape->fixed + (oldest + k) % RING_SIZE * ENTRY_SIZE;
        int ms = load16(entry[k] + 12);
        int64_t time = entry_time(entry[k]);
        if (ms >= 1000 || entry_action(entry[k]) > 15 || entry_flags(entry[k]) > 15 || time < before)
            return pack_plain(row, shape, count, out);
        before = time;
        seconds &= ms == 0;
        category[k] = find(&categories, entry_category(entry[k]));
        kind[k] = find(&kinds, kind_of(entry[k]));
    }
    order(&categories);
    order(&kinds);
    int paired = categories.n <= MAX_PAIRED && kinds.n <= MAX_PAIRED;
    out[2] = (uint8_t)(seconds * SECONDS | paired * PAIRED);
    out[3] = (uint8_t)count, out[4] = (uint8_t)categories.n, out[5] = (uint8_t)kinds.n;
    uint8_t *mask = out + HEADER;
    int bits = shape->fixed - 2;
    out = mask + (bits + 7) / 8;
    for (int k = 0; k < bits; k += 8) {
        uint64_t bytes = 0;
        if (k + 8 <= bits) bytes = load64(row + 2 + k);
        else memcpy(&bytes, row + 2 + k, (size_t)(bits - k));
        int some = 0;
        for (int j = 0; bytes; j++, bytes >>= 8) {
            int zeros = __builtin_ctzll(bytes) / 8;
            j += zeros;
            bytes >>= 8 * zeros;
            some |= 1 << j;
            *out++ = (uint8_t)bytes;
        }
        mask[k / 8] = (uint8_t)some;
    }
    for (int k = 0; k < categories.n; k++) store32(out + 4 * categories.place[k], categories.value[k]);
    out += 4 * categories.n;
    for (int k = 0; k < kinds.n; k++) out[kinds.place[k]] = (uint8_t)kinds.value[k];
    out += kinds.n;
    for (int k = 0; k < count; k++, out += 8) store64(out, entry_item(entry[k]));
    for (int k = 0; k < count; k++, out += 4) store32(out, entry_identity(entry[k]));
    uint8_t *second = paired ? out : out + count;
    for (int k = 0; k < count; k++) {
        int of_category = categories.place[category[k]], of_kind = kinds.place[kind[k]];
        out[k] = (uint8_t)(paired ? of_category | of_kind << 4 : of_category);
        if (!paired) second[k] = (uint8_t)of_kind;
    }
    out = second + count;
    before = 0;
    for (int k = 0; k < count; k++) {
        int64_t time = seconds ? load32(entry[k] + 8) : entry_time(entry[k]);
        out = put_number(out, (uint64_t)(time - before));
        before = time;
    }
    return out;
}

/* The bytes that n rows take at most. */
KERNEL int64_t rows_room(int64_t n, const int32_t *shape_) {
    const struct shape *shape = (const void *)shape_;
    return n * (HEADER + shape->fixed + shape->fixed / 8 + 1 + RING_SIZE * (4 + 1 + 8 + 4 + 2 + 7)) + 8;
}

/* `ends` (n,): the end of each stored row in `out`. */
KERNEL void rows_pack(const uint8_t *rows, int64_t n, const int32_t *shape_, uint8_t *out,
                      int64_t *ends) {
    const struct shape *shape = (const void *)shape_;
    uint8_t *at = out;
    for (int64_t i = 0; i < n; i++) {
        at = pack(rows + i * shape->size, shape, at);
        ends[i] = at - out;
    }
}

static int read_plain(const uint8_t *data, int64_t size, const struct shape *shape, uint8_t *row) {
    int64_t rest = size - 3 + 2;
    if (rest < shape->fixed || rest > shape->size) return 0;
    memcpy(row + 2, data + 3, (size_t)rest - 2);
    uint32_t n = load32(row + shape->n);
    return rest == shape->fixed + (int64_t)(n < RING_SIZE ? n : RING_SIZE) * ENTRY_SIZE;
}

/* 1; 0 where the bytes are no row. Nothing is read beyond `size`. */
static int read(const uint8_t *data, int64_t size, const struct shape *shape, uint8_t *row) {
    if (size < 3 || load16(data) != shape->version) return 0;
    store16(row, (uint16_t)shape->version);
    if (data[2] == PLAIN) return read_plain(data, size, shape, row);
    const uint8_t *end = data + size;
    int bits = shape->fixed - 2, bytes = (bits + 7) / 8;
    if (data[2] & ~(SECONDS | PAIRED) || size < HEADER + bytes) return 0;
    int seconds = data[2] & SECONDS, paired = data[2] & PAIRED;
    int count = data[3], categories_n = data[4], kinds_n = data[5];
    const uint8_t *mask = data + HEADER, *at = mask + bytes;
    for (int k = 0; k < bits; k++) {
        if (!(mask[k / 8] >> k % 8 & 1)) continue;
        if (at == end) return 0;
        row[2 + k] = *at++;
    }
    uint32_t n = load32(row + shape->n);
    if (count != (int)(n < RING_SIZE ? n : RING_SIZE)) return 0;
    int64_t columns = categories_n * 4 + kinds_n + count * (8 + 4 + (paired ? 1 : 2));
    if (end - at < columns) return 0;
    const uint8_t *categories = at, *kinds = categories + 4 * categories_n, *items = kinds + kinds_n;
    const uint8_t *identities = items + 8 * count, *first = identities + 4 * count;
    const uint8_t *second = paired ? first : first + count;
    at = second + count;
    uint64_t time = 0;
    for (int k = 0; k < count; k++) {
        uint64_t delta = 0;
        int shift = 0;
        do {
            if (at == end || shift > 42) return 0;
            delta |= (uint64_t)(*at & 127) << shift;
            shift += 7;
        } while (*at++ & 128);
        time += seconds ? delta * 1000 : delta;
        int category = paired ? first[k] & 15 : first[k], kind = paired ? first[k] >> 4 : second[k];
        if (time > MAX_TIME || category >= categories_n || kind >= kinds_n) return 0;
        uint8_t *entry = row + shape->fixed + (n - (uint32_t)count + (uint32_t)k) % RING_SIZE * ENTRY_SIZE;
        store64(entry, load64(items + 8 * k));
        store32(entry + 8, (uint32_t)(time / 1000));
        store16(entry + 12, (uint16_t)(time % 1000));
        store32(entry + 14, load32(categories + 4 * category));
        store32(entry + 18, load32(identities + 4 * k));
        entry[22] = kinds[kind] & 15;
        entry[23] = kinds[kind] >> 4;
    }
    return at == end;
}

/* Reads one row into `row`, which is zeros: 1, or 0 where the bytes are none. */
KERNEL int row_read(const uint8_t *data, int64_t size, const int32_t *shape, uint8_t *row) {
    return read(data, size, (const void *)shape, row);
}

/* Reads n rows, of `ends` in `data`, into `rows`, which are zeros; one without bytes stays so. The index of
   the first that is no row, or n. */
KERNEL int64_t rows_read(const uint8_t *data, const int64_t *ends, int64_t n, const int32_t *shape_,
                         uint8_t *rows) {
    const struct shape *shape = (const void *)shape_;
    int64_t first = 0;
    for (int64_t i = 0; i < n; first = ends[i++])
        if (ends[i] > first && !read(data + first, ends[i] - first, shape, rows + i * shape->size))
            return i;
    return n;
}
