/* models/features/counts.py */
#include "act.h"

#define ACTIONS 15 /* schemas.actions; a test compares them */

KERNEL void fold_counts(void *act, int64_t who, const int32_t *at) {
    struct act *a = act;
    uint8_t *row = row_of(a, who), *counts = row + at[0];
    int64_t first = INT64_MAX, newest = INT64_MIN;
    for (uint32_t k = a->start[who]; k < a->start[who + 1]; k++) {
        uint32_t i = a->order[k];
        if (a->action[i] < ACTIONS) {
            uint8_t *count = counts + 4 * a->action[i];
            store32(count, load32(count) + 1);
        }
        if (a->time[i] < first) first = a->time[i];
        if (a->time[i] > newest) newest = a->time[i];
    }
    int64_t held = (int64_t)load64(row + at[1]);
    if (held == 0 || first < held) store64(row + at[1], (uint64_t)first);
    if (newest > (int64_t)load64(row + at[2])) store64(row + at[2], (uint64_t)newest);
}
