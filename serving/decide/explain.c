/* Why an item is shown, and what Python makes the decision of: explain.py and decide.py `_explained` define it. */
#include <math.h>
#include "decision.h"

/* The kind of the largest effect above 0 on the candidate at `place`; of equal ones the first. */
static int largest(const decision *d, int64_t place) {
    const decision_plan *p = d->plan;
    double best = 0;
    int kind = WHY_NONE, any = 0;
    for (int64_t c = 0; c < p->n_weighted; c++) {
        if (p->why[c] == WHY_NONE || !d->has_values[c]) continue;
        double effect = d->values[c * d->place_room + place] * p->weight[c];
        if (!any || effect > best || (isnan(effect) && !isnan(best))) best = effect, kind = p->why[c];
        any = 1;
    }
    return best > 0 ? kind : WHY_NONE;
}

/* Names the entry of the interest that adds most to the cosine, if it is similar to the item itself. */
static int32_t similar(const decision *d, const float *vectors, int32_t slot) {
    double cosine[MAX_INTEREST], best = 0;
    int64_t entry = -1;
    column_cosines(vectors, d->interest, NULL, d->n_interest, vectors + (int64_t)slot * DIM, cosine);
    for (int64_t i = 0; i < d->n_interest; i++) {
        double adds = cosine[i] * d->interest_weight[i];
        if (entry < 0 || adds > best) entry = i, best = adds;
    }
    return entry >= 0 && cosine[entry] >= (double)d->plan->similar_cosine ? d->interest[entry] : 0;
}

/* What Python reads of the i-th item. */
static int32_t *shown(const decision *d, int64_t i) { return d->out_items + i * SHOWN_NUMBERS; }

static int is_new(const decision *d, int32_t slot) {
    int64_t published = d->items->published[slot];
    return d->items->titled[slot] && !(published != INT64_MIN && published <= d->ask->now - d->plan->new_ms);
}

/* Which entry of the interest added most to each of the first n that co-visitation speaks for, of equal ones the newer. No
   list of an entry may have it: its own list names one. */
static void say_watched(decision *d, int64_t n) {
    int64_t at = d->plan->covisit_at, begin = at < 0 ? 0 : d->source_begin[at], end = at < 0 ? 0 : d->source_begin[at + 1];
    memset(d->mark, 0, (size_t)d->n * sizeof *d->mark);
    for (int64_t i = 0; i < n; i++)
        if (shown(d, i)[SHOWN_SAYS] == SAYS_WATCHED) d->mark[d->scored[d->places[i]]] = (int32_t)(1 + i);
    for (int64_t e = begin; e < end; e++) {
        int32_t i = d->mark[d->entry_number[e]] - 1;
        if (i < 0) continue;
        int32_t held = shown(d, i)[SHOWN_BECAUSE];   /* 1 + the entry so far */
        if (!held || d->entry_value[e] > d->entry_value[held - 1]) shown(d, i)[SHOWN_BECAUSE] = (int32_t)(1 + e);
    }
    for (int64_t i = 0; i < n; i++) {
        int32_t *out = shown(d, i);
        if (out[SHOWN_SAYS] != SAYS_WATCHED) continue;
        if (!out[SHOWN_BECAUSE]) {
            out[SHOWN_SAYS] = SAYS_TASTE;
            continue;
        }
        int32_t by = d->entry_by[out[SHOWN_BECAUSE] - 1];
        if (by == 0 && d->viewed) out[SHOWN_SAYS] = SAYS_SIMILAR;
        out[SHOWN_BECAUSE] = d->interest[by];
    }
}

/* What the texts of the first n say. */
static void say(decision *d, int64_t n) {
    int64_t watched = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t slot = shown(d, i)[SHOWN_SLOT], because = 0;
        int kind = largest(d, d->places[i]), says = SAYS_LISTED;
        if (kind == WHY_COVISIT) says = SAYS_WATCHED, watched++;
        else if (kind == WHY_CONTENT || (kind == WHY_VECTOR && d->space && d->space->vectors)) {
            because = similar(d, kind == WHY_CONTENT ? d->items->vectors : d->space->vectors, slot);
            says = because ? SAYS_SIMILAR : SAYS_TASTE;
        } else if (kind == WHY_CATEGORY) says = SAYS_CATEGORY;
        else if (kind == WHY_POPULAR) says = SAYS_POPULAR;
        else if (is_new(d, slot)) says = SAYS_NEW;
        shown(d, i)[SHOWN_SAYS] = says, shown(d, i)[SHOWN_BECAUSE] = because;
    }
    if (watched) say_watched(d, n);
}

/* The rows of what is shown, whether or not the ranker saw it: those that it did not see lie behind the others, until
   each is at its place. */
static int take_rows(decision *d) {
    int64_t width = d->plan->n_features, n = d->n_places, n_missed = 0;
    if (!d->ran) return DONE;
    float *missed = d->out_rows + n * width;
    memset(d->mark, 0, (size_t)d->k * sizeof *d->mark);
    for (int64_t i = 0; i < d->n_ranked; i++) d->mark[d->coarse_order[i]] = (int32_t)(1 + i);
    for (int64_t i = 0; i < n; i++)
        if (!d->mark[d->places[i]]) d->missed[n_missed++] = d->scored[d->places[i]];
    int need = n_missed ? rank_rows_of(d, d->missed, n_missed, missed) : DONE;
    if (need) return need;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = d->mark[d->places[i]] - 1;
        const float *from = row < 0 ? missed : d->rows + row * width;
        memcpy(d->out_rows + i * width, from, (size_t)width * sizeof *from);
        if (row < 0) missed += width;
        d->out_predicted[i] = row >= 0;
        d->out_prediction[i] = row < 0 ? 0 : d->predictions[row];
    }
    return DONE;
}

static void take_values(decision *d) {
    int64_t width = d->plan->n_weighted;
    for (int64_t i = 0; i < d->n_places; i++) {
        int32_t place = d->places[i];
        for (int64_t c = 0; c < width; c++) d->out_values[i * width + c] = d->has_values[c] ? d->values[c * d->place_room + place] : 0;
        d->out_before[i] = d->before_fatigue[place];
        d->out_tiredness[i] = d->has_tiredness ? d->tiredness[place] : 0;
    }
}

int explain_slate(decision *d) {
    int need = take_rows(d);
    if (need) return need;
    int64_t n = d->n_places, explained = d->ask->explain == EXPLAIN_NONE ? 0 : n - d->filling;
    for (int64_t i = 0; i < n; i++) {
        int32_t place = d->places[i], number = d->scored[place], slot = d->slot[number];
        int32_t *out = shown(d, i);
        out[SHOWN_SLOT] = slot, out[SHOWN_BITS] = (int32_t)d->bits[number], out[SHOWN_NUMBER] = number;
        out[SHOWN_CATEGORY] = d->items->category[slot], out[SHOWN_GROUP] = d->items->group[slot];
        d->out_score[i] = d->score[place];
        /* one that no source brought is shown in place of a variant that was brought */
        int stands_in = d->has_chosen && d->items->group[slot] && !d->brought[number];
        out[SHOWN_SWAPPED] = d->swapped[i] || stands_in;
        out[SHOWN_SAYS] = d->ask->explain == EXPLAIN_NONE ? SAYS_NOTHING : SAYS_SEEN_BEFORE;
        out[SHOWN_BECAUSE] = 0;
    }
    say(d, explained);
    if (n && d->explored && explained) shown(d, n - 1)[SHOWN_SAYS] = SAYS_EXPLORED, shown(d, n - 1)[SHOWN_BECAUSE] = 0;
    if (d->ask->explain == EXPLAIN_FULL) take_values(d);
    return DONE;
}
