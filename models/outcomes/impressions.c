/* The items that a person was shown: impressions.py defines them. */
#include "impressions.h"

enum { MAX_NEW = 512 };

static size_t write_rows(const impression *rows, int n, uint8_t *out) {
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
    if ((at - out) % IMPRESSION_BYTES == 0) *at++ = 0;
    return at - out;
}

static int is_before(const impression *a, const impression *b) {
    return a->last != b->last ? a->last < b->last : a->item < b->item;
}

/* The stored rows after a slate of these items (distinct or not), shown at `at` (s), at out, which has room
   for 2 + 17 * 64 + 1 bytes. Their size, or -1: Python has to do it. */
KERNEL int impressions_update(const uint8_t *stored, size_t size, const uint8_t *items, size_t n,
                              uint32_t at, uint8_t *out) {
    impression rows[MAX_IMPRESSIONS + MAX_NEW];
    int held = read_impressions(rows, stored, size), all = held;
    if (held < 0 || n > MAX_NEW) return -1;
    for (size_t i = 0; i < n; i++) {
        impression new = {load64(items + 8 * i), 1, at};
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
        impression new = rows[k];
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
    impression rows[MAX_IMPRESSIONS];
    int n = read_impressions(rows, stored, size);
    if (n > 0) memcpy(out, rows, (size_t)n * IMPRESSION_BYTES);
    return n;
}

/* How many rows are stored; -1: these are no rows, or more. */
KERNEL int impressions_count(const uint8_t *stored, size_t size) {
    impression rows[MAX_IMPRESSIONS];
    return read_impressions(rows, stored, size);
}
