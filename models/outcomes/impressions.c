/* The items that a person was shown: impressions.py defines them. */
#include "kernel.h"

enum { MAX_IMPRESSIONS = 64, MAX_NEW = 512, ROW_SIZE = 16, NARROW = 2, WIDE = 3 };

typedef struct {
    uint64_t item;
    uint32_t count, last;
} row;

/* The rows of stored bytes; -1: they are none. */
static int read_rows(row *rows, const uint8_t *stored, size_t size) {
    if (size % ROW_SIZE == 0) {
        if (size > MAX_IMPRESSIONS * ROW_SIZE) return -1;
        memcpy(rows, stored, size);
        return size / ROW_SIZE;
    }
    if (size < 2 || (stored[0] != NARROW && stored[0] != WIDE)) return -1;
    size_t times = stored[1], start = 2 + 5 * times, width = stored[0] == WIDE ? 4 : 1;
    if (size < start) return -1;
    const uint8_t *each = stored + 2 + 4 * times;
    size_t n = 0;
    for (size_t i = 0; i < times; i++) n += each[i];
    size_t whole = start + n * (8 + width);
    if (n > MAX_IMPRESSIONS || size != whole + (whole % ROW_SIZE == 0)) return -1;
    const uint8_t *counts = stored + start + 8 * n;
    for (size_t i = 0, at = 0; i < times; i++)
        for (size_t k = 0; k < each[i]; k++, at++) {
            rows[at].item = load64(stored + start + 8 * at);
            rows[at].count = width == 1 ? counts[at] : load32(counts + 4 * at);
            rows[at].last = load32(stored + 2 + 4 * i);
        }
    return n;
}

static size_t write_rows(const row *rows, int n, uint8_t *out) {
    uint8_t times = 0, form = NARROW, each[MAX_IMPRESSIONS];
    for (int i = 0; i < n; i++) {
        if (rows[i].count > UINT8_MAX) form = WIDE;
        if (!i || rows[i].last != rows[i - 1].last) {
            store32(out + 2 + 4 * times, rows[i].last);
            each[times++] = 0;
        }
        each[times - 1]++;
    }
    out[0] = form, out[1] = times;
    uint8_t *at = out + 2 + 4 * times;
    memcpy(at, each, times);
    at += times;
    for (int i = 0; i < n; i++, at += 8) store64(at, rows[i].item);
    for (int i = 0; i < n; i++) {
        if (form == NARROW) *at++ = rows[i].count;
        else store32(at, rows[i].count), at += 4;
    }
    if ((at - out) % ROW_SIZE == 0) *at++ = 0;
    return at - out;
}

static int is_before(const row *a, const row *b) {
    return a->last != b->last ? a->last < b->last : a->item < b->item;
}

/* The stored rows after a slate of these items (distinct or not), shown at `at` (s), at out, which has room
   for 2 + 17 * 64 + 1 bytes. Their size, or -1: Python has to do it. */
KERNEL int impressions_update(const uint8_t *stored, size_t size, const uint8_t *items, size_t n,
                              uint32_t at, uint8_t *out) {
    row rows[MAX_IMPRESSIONS + MAX_NEW];
    int held = read_rows(rows, stored, size), all = held;
    if (held < 0 || n > MAX_NEW) return -1;
    for (size_t i = 0; i < n; i++) {
        row new = {load64(items + 8 * i), 1, at};
        int k = held;
        while (k < all && rows[k].item != new.item) k++;
        if (k == all) rows[all++] = new;
    }
    /* a held row of an item that is shown again joins the new one */
    int kept = 0, first = held;
    for (int k = 0; k < held; k++) {
        int again = first;
        while (again < all && rows[again].item != rows[k].item) again++;
        if (again == all) {
            rows[kept++] = rows[k];
            continue;
        }
        rows[again].count += rows[k].count;
        if (rows[again].last < rows[k].last) rows[again].last = rows[k].last;
    }
    for (int k = held; k < all; k++) {
        row new = rows[k];
        int place = kept++;
        for (; place && is_before(&new, &rows[place - 1]); place--) rows[place] = rows[place - 1];
        rows[place] = new;
    }
    int dropped = kept > MAX_IMPRESSIONS ? kept - MAX_IMPRESSIONS : 0;
    return write_rows(rows + dropped, kept - dropped, out);
}

/* The stored rows as impressions.IMPRESSION, at out, which has room for 64 of them. Their number; -1: they are
   no rows, or more. */
KERNEL int impressions_read(const uint8_t *stored, size_t size, uint8_t *out) {
    row rows[MAX_IMPRESSIONS];
    int n = read_rows(rows, stored, size);
    if (n > 0) memcpy(out, rows, (size_t)n * ROW_SIZE);
    return n;
}
