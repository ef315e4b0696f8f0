/* models/features/days.py and overflow.py */
#include "act.h"

#define DAILY_CAP 3
#define MAX_PER_DAY 10000
#define ITEM_BITS 0xFFFFFFFEu

/* The ring's function moves the days, too. */
KERNEL void fold_days(void *act, int64_t who, const int32_t *at) {
    (void)act, (void)who, (void)at;
}

void days_begin(struct days *days, struct act *a, int64_t who) {
    const uint8_t *row = row_of(a, who) + a->layout.days;
    memset(days, 0, sizeof *days);
    days->day[0] = load16(row);
    days->day[1] = load16(row + 2);
    days->added = a->added + a->added_n;
    int64_t low = 0, high = a->overflow_n, slot = a->people[who];
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (a->overflow[4 * middle] < slot) low = middle + 1;
        else high = middle;
    }
    const int64_t *found = a->overflow + 4 * low;
    if (low == a->overflow_n || found[0] != slot) return;
    days->held = (const uint32_t *)(uintptr_t)found[1];
    days->held_n = found[2];
    days->sizes[0] = days->stored[0] = found[3];
    days->sizes[1] = days->stored[1] = found[2] - found[3];
}

static void drop(struct days *days, int place) {
    if (!days->sizes[place]) return;
    days->sizes[place] = 0;
    if (days->stored[place]) days->dropped |= 1 << place;
    int64_t left = 0;
    for (int64_t k = 0; k < days->added_n; k++) {
        uint32_t number = days->added[k];
        if ((int)(number & 1) != place) days->added[left++] = number;
    }
    days->added_n = left;
}

/* The place of an action's day, which replaces the earlier of the two where it is another. */
int days_enter(struct days *days, int64_t time) {
    int64_t day = time / DAY_MS;
    if (day == days->day[0]) return 0;
    if (day == days->day[1]) return 1;
    int place = days->day[1] < days->day[0];
    days->day[place] = day;
    drop(days, place);
    return place;
}

static int among(const uint32_t *numbers, int64_t n, uint32_t number) {
    uint32_t found = 0;
    int64_t k = 0;
    for (; k + 16 <= n && found < DAILY_CAP; k += 16)
        for (int j = 0; j < 16; j++) found += numbers[k + j] == number;
    for (; k < n; k++) found += numbers[k] == number;
    return (int)found;
}

static int count(const struct days *days, uint32_t number) {
    int place = number & 1, found = 0;
    if (!days->sizes[place]) return 0;
    if (days->stored[place] && !(days->dropped >> place & 1))
        found = among(days->held, days->held_n, number);
    return found + among(days->added, days->added_n, number);
}

int days_count(const struct days *days, uint64_t item, int place) {
    return count(days, ((uint32_t)item & ITEM_BITS) | (uint32_t)place);
}

int days_full(const struct days *days, int place) { return days->sizes[place] >= MAX_PER_DAY; }

/* Keeps an entry that left the list, or did not enter it, where its day is one of the two. */
void days_keep(struct days *days, const uint8_t *entry) {
    int64_t day = entry_time(entry) / DAY_MS;
    int place = day == days->day[0] ? 0 : day == days->day[1] ? 1 : -1;
    if (place < 0) return;
    uint32_t number = ((uint32_t)entry_item(entry) & ITEM_BITS) | (uint32_t)place;
    if (days->sizes[place] >= MAX_PER_DAY || count(days, number) >= DAILY_CAP) return;
    days->added[days->added_n++] = number;
    days->sizes[place]++;
}

void days_end(const struct days *days, struct act *a, int64_t who) {
    uint8_t *row = row_of(a, who), *flags = row + a->layout.flags;
    store16(row + a->layout.days, (uint16_t)days->day[0]);
    store16(row + a->layout.days + 2, (uint16_t)days->day[1]);
    if (!days->dropped && !days->added_n) return;
    int some = days->sizes[0] || days->sizes[1];
    store16(flags, (uint16_t)((load16(flags) & ~ROW_HAS_OVERFLOW) | some * ROW_HAS_OVERFLOW));
    int64_t *change = a->changes + 4 * a->made.kept_n++;
    change[0] = a->people[who];
    change[1] = days->dropped;
    change[2] = a->added_n;
    change[3] = days->added_n;
    a->added_n += days->added_n;
}
