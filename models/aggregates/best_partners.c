/* Lists of neighbours: `models.aggregates.covisit.Pairs.best_by_numpy` has the definition. */
#include "kernel.h"

typedef struct {
    double first, rest;        /* of the score: the first term, and the sum of the others */
    double forward, backward;  /* sums of (item, partner), of (partner, item) */
} Score;
_Static_assert(sizeof(Score) == 32, "as models.aggregates.best_partners.SCORE_BYTES");

typedef struct {
    uint32_t low, at; /* ascending: the best first; the place among the scores */
    uint64_t hash;
} Best;

/* The first of n ascending keys that is not below `wanted`. */
static inline size_t place64(const uint64_t *keys, size_t n, uint64_t wanted) {
    size_t at = 0;
    while (n) {
        size_t half = n / 2;
        if (keys[at + half] < wanted) at += half + 1, n -= half + 1;
        else n = half;
    }
    return at;
}

static inline size_t place32(const uint32_t *keys, size_t n, uint32_t wanted) {
    size_t at = 0;
    while (n) {
        size_t half = n / 2;
        if (keys[at + half] < wanted) at += half + 1, n -= half + 1;
        else n = half;
    }
    return at;
}

/* Adds a term of the pair with a partner; answers how many partners there are. */
static inline size_t add(size_t many, uint32_t *place, uint32_t *partner, Score *scores, uint32_t other,
                         double sum, double weighed, int backward) {
    size_t at = place[other];
    if (!at) {
        at = place[other] = (uint32_t)++many;
        partner[at - 1] = other;
        scores[at - 1] = (Score){weighed, 0, 0, 0};
    } else {
        scores[at - 1].rest += weighed;
    }
    if (backward) scores[at - 1].backward += sum;
    else scores[at - 1].forward += sum;
    return many;
}

static inline double score_of(const Score *score) { return score->first + score->rest; }

/* Puts a pair where it belongs among the `held` best, of which there are `most` at most. */
static inline size_t insert(Best *best, size_t held, size_t most, Best one) {
    size_t at = held;
    while (at && (one.low < best[at - 1].low || (one.low == best[at - 1].low && one.hash < best[at - 1].hash))) at--;
    if (at == most) return held;
    if (held < most) held++;
    memmove(best + at + 1, best + at, (held - at - 1) * sizeof *best);
    best[at] = one;
    return held;
}

/* The best partners of n items, best first, with their scores and sums: `most` places an item, of which
 * count[i] are filled. Of each level `keys` (rows), the sums, the order of its rows by second item, the second
 * items that are there and where each starts. Scratch: `place` (as many as there are items, zeros, and zeros
 * again afterwards), `partner` and `held` (likewise many), `best` (`most` of 16 bytes). */
KERNEL void best_partners(uint64_t *const *keys, double *const *sums, uint32_t *const *order,
                          uint32_t *const *seconds, int64_t *const *starts, const size_t *rows,
                          const size_t *distinct, size_t levels, const int64_t *items, size_t n,
                          const uint64_t *hashes, double weight, size_t most, uint32_t *place, uint32_t *partner,
                          uint8_t *held, uint8_t *best, int64_t *partners, double *scores, double *forward,
                          double *backward, int64_t *count) {
    Score *found = (Score *)(void *)held;
    Best *first = (Best *)(void *)best;
    for (size_t i = 0; i < n; i++) {
        uint64_t item = (uint64_t)items[i];
        size_t many = 0, kept = 0;
        for (size_t l = 0; l < levels; l++) {
            size_t at = place64(keys[l], rows[l], item << 32);
            for (; at < rows[l] && keys[l][at] >> 32 == item; at++)
                many = add(many, place, partner, found, (uint32_t)keys[l][at], sums[l][at], sums[l][at], 0);
        }
        for (size_t l = 0; l < levels; l++) {
            size_t of = place32(seconds[l], distinct[l], (uint32_t)item);
            if (of == distinct[l] || seconds[l][of] != item) continue;
            for (int64_t at = starts[l][of]; at < starts[l][of + 1]; at++) {
                uint32_t row = order[l][at];
                many = add(many, place, partner, found, (uint32_t)(keys[l][row] >> 32), sums[l][row],
                           sums[l][row] * weight, 1);
            }
        }
        double top = 0;
        for (size_t j = 0; j < many; j++) {
            place[partner[j]] = 0;
            if (score_of(found + j) > top) top = score_of(found + j);
        }
        for (size_t j = 0; j < many; j++) {
            double score = score_of(found + j);
            if (!(score > 0)) continue;
            float relative = (float)(score / top);
            /* bits of floats in 0 to 1 sort as the floats do */
            kept = insert(first, kept, most, (Best){0x3F800000u - load32(&relative), (uint32_t)j, hashes[partner[j]]});
        }
        for (size_t j = 0; j < kept; j++) {
            const Score *one = found + first[j].at;
            partners[i * most + j] = partner[first[j].at];
            scores[i * most + j] = score_of(one);
            forward[i * most + j] = one->forward;
            backward[i * most + j] = one->backward;
        }
        count[i] = (int64_t)kept;
    }
}
