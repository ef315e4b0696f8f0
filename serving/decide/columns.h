/* What the C files of columns share: columns.c has the table, listed.c co-visitation, leaning.c what is known of the
 * person (columns.py). */
#ifndef FRESHET_COLUMNS_H
#define FRESHET_COLUMNS_H
#include "../../serving/decide/decision.h"

/* The value of a column for n candidates; 0: None. */
typedef int column(decision *d, const int32_t *numbers, int64_t n, double *out);
/* listed.c */
column column_covisit, column_covisit_best, column_covisit_last, column_covisit_count, column_covisit_back;
column column_next, column_forward, column_backward;
/* leaning.c */
column column_category, column_affinity, column_same_category_last, column_shown, column_history, column_session;
column column_idle;

/* bits of decision.shared */
enum { COVISIT_SUM = 1, LISTED = 2, MERGED = 4, LEANING = 8, INTEREST_POPULARITY = 16 };

/* whether it is made; from now on it is */
static inline int made(decision *d, int64_t what) {
    int was = (d->shared & what) != 0;
    d->shared |= what;
    return was;
}

/* of a logarithm or a power: columns.py `_rounded` */
static inline double rounded(double value) { return (double)(float)value; }

#define FEW 1024 /* places of a filter of a few numbers */

/* A filter of a few numbers: 1 + the place of one that may be the number asked for, 0: it is none of them. */
typedef struct {
    uint8_t place[FEW];
} few;

static inline void few_put(few *filter, int32_t number, int place) {
    filter->place[(uint32_t)number % FEW] = (uint8_t)(1 + place);
}
static inline int few_find(const few *filter, int32_t number) { return filter->place[(uint32_t)number % FEW]; }
#endif
