/* Slots of people by open addressing: `models.slots.SlotTable` has the definition. */
#include "kernel.h"

typedef struct {
    uint64_t person, person2;
    int64_t partition, slot; /* the slot + 1; 0: the entry is free */
} Entry;
_Static_assert(sizeof(Entry) == 32, "as models.slots.ENTRY_BYTES");

/* The entry of a person, or the free one where it belongs. */
static inline Entry *entry_of(Entry *table, uint64_t mask, int64_t partition, uint64_t person, uint64_t person2) {
    uint64_t at = person + (uint64_t)partition * 0x9E3779B97F4A7C15;
    for (at ^= at >> 32;; at++) {
        Entry *e = table + (at & mask);
        if (!e->slot || (e->person == person && e->person2 == person2 && e->partition == partition)) return e;
    }
}

/* Writes the slots of n people, -1 where there is none. `table`: mask + 1 entries, of which half are free. */
KERNEL void slots_find(uint8_t *table, uint64_t mask, const int64_t *partition, const uint64_t *person,
                       const uint64_t *person2, size_t n, int64_t *slots) {
    for (size_t i = 0; i < n; i++)
        slots[i] = entry_of((Entry *)(void *)table, mask, partition[i], person[i], person2[i])->slot - 1;
}

/* Gives n people their slots; the table has room for them. Answers how many had none. */
KERNEL size_t slots_add(uint8_t *table, uint64_t mask, const int64_t *partition, const uint64_t *person,
                        const uint64_t *person2, size_t n, const int64_t *slots) {
    size_t added = 0;
    for (size_t i = 0; i < n; i++) {
        Entry *e = entry_of((Entry *)(void *)table, mask, partition[i], person[i], person2[i]);
        added += !e->slot;
        *e = (Entry){person[i], person2[i], partition[i], slots[i] + 1};
    }
    return added;
}

/* Copies a table of `size` entries into an empty one, of mask + 1. */
KERNEL void slots_copy(const uint8_t *from, size_t size, uint8_t *table, uint64_t mask) {
    const Entry *held = (const Entry *)(const void *)from;
    for (size_t i = 0; i < size; i++)
        if (held[i].slot)
            *entry_of((Entry *)(void *)table, mask, held[i].partition, held[i].person, held[i].person2) = held[i];
}
