/* models/features/session.py */
#include "act.h"

/* Fields: session, session_start, session_last, session_n, sessions. Fills `session_rank`. */
KERNEL void fold_session(void *act, int64_t who, const int32_t *at) {
    struct act *a = act;
    uint8_t *row = row_of(a, who);
    uint64_t key = load64(row + at[0]);
    int64_t begun = (int64_t)load64(row + at[1]), last = (int64_t)load64(row + at[2]);
    int64_t rank = load32(row + at[3]);
    uint32_t sessions = load32(row + at[4]);
    int some = 0;
    for (uint32_t k = a->start[who]; k < a->start[who + 1]; k++) {
        uint32_t i = a->order[k];
        if (!a->in_order[i]) continue;
        int64_t time = a->time[i];
        uint64_t named = a->session[i];
        int first = !some && sessions == 0;
        int gap = time > last && (uint64_t)time - (uint64_t)last > GAP_MS;
        if (first || (named ? named != key : gap)) {
            begun = time;
            rank = 0;
            sessions++;
        }
        if (named || gap || first) key = named;
        last = time;
        a->session_rank[i] = rank++;
        some = 1;
    }
    if (!some) return;
    store64(row + at[0], key);
    store64(row + at[1], (uint64_t)begun);
    store64(row + at[2], (uint64_t)last);
    store32(row + at[3], (uint32_t)rank);
    store32(row + at[4], sessions);
}
