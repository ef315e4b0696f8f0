/* Exact search: `serving.world.scan` has the definitions. */
#include "kernel.h"

enum { WIDTH = 64, BLOCK = 16 };

/* The inner products of BLOCK rows with the query, and the highest of them: whole numbers, in any order of the sum
 * the same. Rows have a norm of at most 2052 and a query one of at most 2^18, so none reaches 2^31. */
BY_CPU static int32_t block_products(const int16_t *restrict rows, const int16_t *restrict query,
                                     int32_t *restrict products) {
    int32_t highest = INT32_MIN;
    for (int i = 0; i < BLOCK; i++) {
        int32_t sum = 0;
        for (int c = 0; c < WIDTH; c++) sum += (int32_t)rows[i * WIDTH + c] * query[c];
        products[i] = sum;
        if (sum > highest) highest = sum;
    }
    return highest;
}

typedef struct {
    int32_t product, slot;
    uint64_t hash;
} Near;
_Static_assert(sizeof(Near) == 16, "as serving.world.scan.NEAR");

/* whether a comes after b: it is less near, or equally near with a higher hash */
static inline int after(const Near *a, const Near *b) {
    return a->product != b->product ? a->product < b->product : a->hash > b->hash;
}

/* Puts `it` in the place of the root of a heap of n whose root comes after all others. */
static void sift(Near *heap, size_t n, Near it) {
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && after(heap + child + 1, heap + child)) child++;
        if (!after(heap + child, &it)) break;
        heap[at] = heap[child];
    }
    heap[at] = it;
}

static void add(Near *heap, size_t n, Near it) {
    size_t at = n;
    for (; at && after(&it, heap + (at - 1) / 2); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = it;
}

/* Writes the at most k nearest of n rows (a multiple of 16) with a positive product, in order, and answers how many.
 * `slots` (n) of the rows, below the length of `hashes`; `query` has 64 coordinates, `near` room for k. */
KERNEL size_t scan_nearest(const int16_t *rows, const int32_t *slots, size_t n, const uint64_t *hashes,
                           const int16_t *query, size_t k, uint8_t *near) {
    Near *heap = (Near *)(void *)near;
    size_t held = 0;
    int32_t products[BLOCK];
    if (!k) return 0;
    for (size_t start = 0; start + BLOCK <= n; start += BLOCK) {
        int32_t highest = block_products(rows + start * WIDTH, query, products);
        if (highest <= 0 || (held == k && highest < heap->product)) continue;
        for (size_t i = 0; i < BLOCK; i++) {
            if (products[i] <= 0 || (held == k && products[i] < heap->product)) continue;
            int32_t slot = slots[start + i];
            Near it = {products[i], slot, hashes[slot]};
            if (held < k) add(heap, held++, it);
            else if (after(heap, &it)) sift(heap, k, it);
        }
    }
    for (size_t end = held; end-- > 1;) { /* the last of them goes to the end */
        Near last = heap[0];
        sift(heap, end, heap[end]);
        heap[end] = last;
    }
    return held;
}
