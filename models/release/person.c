/* People's vectors: `models.release.person.Encoder.encode_by_numpy` is the definition. Every sum here is exact
 * (`models.release.interest.VECTOR_FADING`), so no order of adding matters. */
#include "kernel.h"
#include <math.h>

enum { DIM = 64, GRID = 2048, NOT_IN_SPACE = -1 };

/* as models.release.person.LAYOUT has them: of a row, and within an entry of its list */
enum { ROW_BYTES, N, LIST, LIST_SIZE, ENTRY_BYTES, ITEM, ACTION, FLAGS };

typedef struct {
    const uint64_t *hashes; /* ascending, then the largest u64 */
    const int64_t *start;   /* by the hash's first bits: the row to begin at */
    int shift;
    int64_t size;
    const float *vectors;
} Space;

static inline int64_t find(const Space *space, uint64_t hash) {
    int64_t at = space->start[hash >> space->shift];
    while (space->hashes[at] < hash) at++;
    return space->hashes[at] == hash && at < space->size ? at : NOT_IN_SPACE;
}

/* the nearest integer, the even one of two (numpy.rint), of |x| below 2^51 */
static inline double rounded(double x) { return (x + 0x1.8p52) - 0x1.8p52; }

static inline void put_on_grid(const float sum[DIM], int16_t *grid) {
    double squares = 0;
    for (int d = 0; d < DIM; d++) squares += (double)sum[d] * sum[d];
    double norm = sqrt(squares);
    for (int d = 0; d < DIM; d++) grid[d] = norm > 0 ? (int16_t)rounded(sum[d] / norm * GRID) : 0;
}

BY_CPU static void encode(const uint8_t *rows, size_t people, const int64_t *layout, size_t latest,
                          const uint8_t *speaks, uint8_t back, const float *weights, const uint64_t *hashes,
                          const int64_t *start, int shift, int64_t size, const float *vectors, int16_t *grid,
                          uint8_t *has_vector, uint8_t *complete) {
    const Space space = {hashes, start, shift, size, vectors};
    for (size_t i = 0; i < people; i++) {
        const uint8_t *row = rows + i * (size_t)layout[ROW_BYTES], *list = row + layout[LIST];
        uint32_t n = load32(row + layout[N]);
        float sum[DIM] = {0};
        size_t found = 0, missing = 0;
        for (uint32_t k = 0; k < latest && k < n; k++) {
            const uint8_t *entry = list + (n - 1 - k) % (uint32_t)layout[LIST_SIZE] * (size_t)layout[ENTRY_BYTES];
            if (!speaks[entry[layout[ACTION]]] || entry[layout[FLAGS]] & back) continue;
            int64_t at = find(&space, load64(entry + layout[ITEM]));
            if (at == NOT_IN_SPACE) {
                missing++;
                continue;
            }
            const float *vector = vectors + at * DIM, weight = weights[found++];
            for (int d = 0; d < DIM; d++) sum[d] += weight * vector[d];
        }
        put_on_grid(sum, grid + i * DIM);
        has_vector[i] = found > 0;
        complete[i] = !missing;
    }
}

/* Of `people` rows the vector on the grid (people, DIM), whether the space has an item of theirs, and whether it
 * has all of their `latest` last positive ones. `speaks`: by code of an action, whether it is positive; `back`:
 * the bits of an entry that was taken back; `weights`: by rank among the items that the space has. */
KERNEL void person_encode(const uint8_t *rows, size_t people, const int64_t *layout, size_t latest,
                          const uint8_t *speaks, uint8_t back, const float *weights, const uint64_t *hashes,
                          const int64_t *start, int shift, int64_t size, const float *vectors, int16_t *grid,
                          uint8_t *has_vector, uint8_t *complete) {
    encode(rows, people, layout, latest, speaks, back, weights, hashes, start, shift, size, vectors, grid, has_vector,
           complete);
}
