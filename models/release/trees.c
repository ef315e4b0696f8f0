/* Boosted trees: `models.release.trees.Trees.predict_by_numpy` is the definition. Every sum is in float32, in the
 * order of the trees, as ONNX Runtime adds them. */
#include "trees.h"
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define BY_MASKS
#endif

/* The linear part: each product is added unrounded, as the fused instruction of ONNX Runtime's matrix product does. */
static float linear(const tree_ensemble *t, const float *row) {
    float sum = 0;
    if (t->start)
        for (int64_t i = 0; i < t->width; i++) sum = (float)((double)row[i] * t->start[i] + sum);
    return sum;
}

static float finished(const tree_ensemble *t, const float *row, float sum) {
    sum += t->base;
    return t->start ? sum + linear(t, row) : sum;
}

static void by_walks(const tree_ensemble *t, const float *rows, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i++) {
        const float *row = rows + i * t->width;
        float sum = 0;
        for (int64_t k = 0; k < t->trees; k++) {
            int32_t at = t->root[k];
            while (t->column[at] >= 0) {
                float x = row[t->column[at]];
                int other = x != x ? t->missing[at] : !(x <= t->value[at]);
                at = t->child[2 * at + other];
            }
            sum += t->value[at];
        }
        out[i] = finished(t, row, sum);
    }
}

#ifdef BY_MASKS
enum { STEP = 16 };

/* Columns of `n` rows, at most STEP, the missing ones 0; whether there is a NaN. */
static int turned(const float *rows, int64_t n, int64_t width, float to[][STEP]) {
    int missing = 0;
    for (int64_t c = 0; c < width; c++)
        for (int64_t i = 0; i < STEP; i++) {
            float x = i < n ? rows[i * width + c] : 0;
            missing |= x != x;
            to[c][i] = x;
        }
    return missing;
}

/* Of eight rows the number of the first leaf that is left. */
__attribute__((target("avx2"))) static inline __m256i first(__m256i left) {
    __m256i lowest = _mm256_and_si256(left, _mm256_sub_epi32(_mm256_setzero_si256(), left));
    __m256i exponent = _mm256_srli_epi32(_mm256_castps_si256(_mm256_cvtepi32_ps(lowest)), 23);
    return _mm256_sub_epi32(exponent, _mm256_set1_epi32(127));
}

/* Each test is put to STEP rows at once. A leaf is a bit, from the first child on: a test that fails takes the
 * leaves below child 0 away, and of those left the first is where the row comes out (QuickScorer: Lucchese et al.
 * 2015, "QuickScorer: a Fast Algorithm to Rank Documents with Additive Ensembles of Regression Trees"). */
__attribute__((target("avx2"))) static void by_masks(const tree_ensemble *t, const float *rows, int64_t n, float *out) {
    float x[MASK_COLUMNS][STEP] __attribute__((aligned(32)));
    float sums[STEP] __attribute__((aligned(32)));
    for (int64_t from = 0; from < n; from += STEP, rows += STEP * t->width, out += STEP) {
        int64_t here = n - from < STEP ? n - from : STEP;
        if (turned(rows, here, t->width, x)) {
            by_walks(t, rows, here, out);
            continue;
        }
        __m256 low = _mm256_setzero_ps(), high = low;
        const int32_t *column = t->test_column, *mask = t->test_mask;
        const float *value = t->test_value;
        for (int64_t k = 0; k < t->trees; k++) {
            __m256i left_low = _mm256_set1_epi32((1 << MASK_LEAVES) - 1), left_high = left_low;
            for (int64_t i = 0; i < t->tests; i++, column++, mask++, value++) {
                const float *of = x[*column];
                __m256 bound = _mm256_broadcast_ss(value);
                __m256i others = _mm256_set1_epi32(*mask);
                __m256 holds_low = _mm256_cmp_ps(_mm256_load_ps(of), bound, _CMP_LE_OQ);
                __m256 holds_high = _mm256_cmp_ps(_mm256_load_ps(of + 8), bound, _CMP_LE_OQ);
                left_low = _mm256_and_si256(left_low, _mm256_or_si256(_mm256_castps_si256(holds_low), others));
                left_high = _mm256_and_si256(left_high, _mm256_or_si256(_mm256_castps_si256(holds_high), others));
            }
            __m256 leaves = _mm256_loadu_ps(t->leaf + k * MASK_LEAVES);
            low = _mm256_add_ps(low, _mm256_permutevar8x32_ps(leaves, first(left_low)));
            high = _mm256_add_ps(high, _mm256_permutevar8x32_ps(leaves, first(left_high)));
        }
        _mm256_store_ps(sums, low);
        _mm256_store_ps(sums + 8, high);
        for (int64_t i = 0; i < here; i++) out[i] = finished(t, rows + i * t->width, sums[i]);
    }
}
#endif

int trees_predict(const void *trees, const float *rows, int64_t n, int64_t width, float *out) {
    const tree_ensemble *t = trees;
    if (width != t->width) return -1;
#ifdef BY_MASKS
    if (t->tests && __builtin_cpu_supports("avx2")) {
        by_masks(t, rows, n, out);
        return 0;
    }
#endif
    by_walks(t, rows, n, out);
    return 0;
}

/* `trees_predict`, for Python. */
KERNEL int trees_scores(const tree_ensemble *trees, const float *rows, int64_t n, int64_t width, float *out) {
    return trees_predict(trees, rows, n, width, out);
}
