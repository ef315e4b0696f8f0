/* The stored form of what a person was shown: models/outcomes/impressions.py defines it. */
#ifndef FRESHET_IMPRESSIONS_H
#define FRESHET_IMPRESSIONS_H
#include "kernel.h"

enum { MAX_IMPRESSIONS = 64, IMPRESSION_BYTES = 16, NARROW = 2, WIDE = 3 };
enum { IMPRESSIONS_SIZE = 2 + 17 * MAX_IMPRESSIONS + 1 }; /* as stored, at most */

typedef struct {
    uint64_t item;
    uint32_t count, last;
} impression;

/* The rows of stored bytes, of which `rows` has room for MAX_IMPRESSIONS; -1: they are none, or more. */
static inline int read_impressions(impression *rows, const uint8_t *stored, size_t size) {
    if (size % IMPRESSION_BYTES == 0) {
        if (size > MAX_IMPRESSIONS * IMPRESSION_BYTES) return -1;
        if (size) memcpy(rows, stored, size);
        return (int)(size / IMPRESSION_BYTES);
    }
    if (size < 2 || (stored[0] != NARROW && stored[0] != WIDE)) return -1;
    size_t times = stored[1], start = 2 + 5 * times, width = stored[0] == WIDE ? 4 : 1;
    if (size < start) return -1;
    const uint8_t *each = stored + 2 + 4 * times;
    size_t n = 0;
    for (size_t i = 0; i < times; i++) n += each[i];
    size_t whole = start + n * (8 + width);
    if (n > MAX_IMPRESSIONS || size != whole + (whole % IMPRESSION_BYTES == 0)) return -1;
    const uint8_t *counts = stored + start + 8 * n;
    for (size_t i = 0, at = 0; i < times; i++)
        for (size_t k = 0; k < each[i]; k++, at++) {
            rows[at].item = load64(stored + start + 8 * at);
            rows[at].count = width == 1 ? counts[at] : load32(counts + 4 * at);
            rows[at].last = load32(stored + 2 + 4 * i);
        }
    return (int)n;
}

/* impressions.c */
int impressions_update(const uint8_t *stored, size_t size, const uint8_t *items, size_t n, uint32_t at,
                       uint8_t *out);
#endif
