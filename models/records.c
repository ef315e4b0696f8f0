/* Records of `events` -> columns: `models.records.decode_by_msgspec` is the definition.
 *
 * Taken are actions and served records in canonical JSON; all else is not taken, and msgspec decodes it. */
#include "hash.h"
#include "json.h"

enum { ACTION = 0, SERVED = 5, NOT_TAKEN = 255 };
enum { PERSON_BYTES = 32, MAX_NAME_BYTES = 1024 };
enum { UNKNOWN = 1, IMPORTED = 2 };
static const int64_t MAX_TIME = 4102444800000;
static const int64_t MAX_AMOUNT = 1LL << 53, MAX_QUANTITY = INT32_MAX;
static const uint32_t NOT_IN_COLUMNS = UINT32_MAX;

/* what a string is hashed for; 0: the entry is empty */
enum { ITEM = 1, CATEGORY = 2 };
enum { ENTRY_BYTES = 64, MAX_TEXT = 54 };
typedef struct {
    uint8_t of, n, text[MAX_TEXT];
    uint64_t hash;
} Entry;
_Static_assert(sizeof(Entry) == ENTRY_BYTES, "an entry is a cache line");

typedef struct {
    uint64_t *person, *person2, *name, *id, *item, *session, *slate;
    int64_t *occurred, *received, *amount;
    uint32_t *category, *person_at, *currency, *quantity;
    uint8_t *kind, *action, *flags, *group;
} Columns;

typedef struct {
    const uint64_t *names; /* of the client's actions, each in 8 bytes */
    const uint8_t *codes;  /* of each the code, then the code where it is negative */
    size_t n;
    uint64_t minus; /* the name whose sign is part of an action's identity */
    Entry *remembered;
    uint64_t mask;
} Tables;

static inline uint64_t plain_hash(Text text, int of) {
    uint64_t h = blake2b(text.at, text.n, of == ITEM ? 8 : 4);
    return h ? h : 1;
}

/* The hash of an item's or a category's name, remembered by its bytes. */
static inline uint64_t hash_of(const Tables *t, Text text, int of) {
    if (!t->remembered || text.n > MAX_TEXT) return plain_hash(text, of);
    Entry *entry = t->remembered + (xxh3_64(text.at, text.n, (uint64_t)of) & t->mask);
    if (entry->of == of && entry->n == text.n && !memcmp(entry->text, text.at, text.n)) return entry->hash;
    entry->of = (uint8_t)of;
    entry->n = (uint8_t)text.n;
    memcpy(entry->text, text.at, text.n);
    return entry->hash = plain_hash(text, of);
}

static inline uint64_t name_in_8(Text text) {
    uint64_t name = 0;
    if (text.n && text.n <= 8) memcpy(&name, text.at, text.n);
    return name;
}

static inline int take_time(Cursor *c, int64_t *time) {
    return take_integer(c, time) && *time >= 0 && *time <= MAX_TIME;
}

/* no time is later than the record's own (`schemas.record_time.bound`) */
static inline int64_t bounded(int64_t time, int64_t timestamp) {
    return time <= timestamp ? time : timestamp > 0 ? timestamp : 0;
}

static inline int take_person(Cursor *c, Text *person) {
    return take_text(c, person) && person->n == PERSON_BYTES;
}

static inline int is_ascii(Text text) {
    uint8_t any = 0;
    for (size_t i = 0; i < text.n; i++) any |= text.at[i];
    return any < 0x80;
}

static inline void set_ids(const Columns *to, size_t i, Text person, const uint8_t *value, uint64_t name) {
    uint64_t first = xxh3_64(person.at, person.n, 0), id = first ^ name;
    to->person[i] = first;
    to->person2[i] = xxh3_64(person.at, person.n, 1);
    to->person_at[i] = (uint32_t)(person.at - value);
    to->name[i] = name;
    to->id[i] = !name ? 0 : id ? id : 1;
}

/* The hash of an action's name, as `models.dedupe.action_identity`. 0: it is too long. */
static inline int name_of(Text event, Text item, Text action, int minus, uint64_t *name) {
    uint8_t text[MAX_NAME_BYTES + 4], *at = text;
    if (event.n + item.n + action.n > MAX_NAME_BYTES) return 0;
    memcpy(at, event.at, event.n), at += event.n, *at++ = 0;
    memcpy(at, item.at, item.n), at += item.n, *at++ = 0;
    memcpy(at, action.at, action.n), at += action.n, *at++ = 0;
    *at++ = minus ? '-' : '+';
    *name = xxh3_64(text, (size_t)(at - text), 0);
    return 1;
}

/* What a line cost, as `models.records.price_of`. */
static inline void set_price(const Columns *to, size_t i, int64_t amount, Text currency, int64_t quantity) {
    if (amount < 0 || quantity < 0 || currency.n > 4) {
        to->currency[i] = NOT_IN_COLUMNS;
        return;
    }
    uint32_t code = 0;
    for (size_t k = 0; k < currency.n; k++) code |= (uint32_t)currency.at[k] << 8 * k;
    to->currency[i] = code;
    to->amount[i] = amount < MAX_AMOUNT ? amount : MAX_AMOUNT;
    to->quantity[i] = (uint32_t)(quantity < MAX_QUANTITY ? quantity : MAX_QUANTITY);
}

static int take_scale(Cursor *c) {
    return TAKE(c, "{\"min\":") && take_number(c) && TAKE(c, ",\"max\":") && take_number(c)
        && (!TAKE(c, ",\"middle\":") || take_number(c)) && TAKE(c, "}");
}

static int take_source(Cursor *c, int *imported) {
    Text client;
    int any = 0;
    *imported = 0;
    if (TAKE(c, "\"client\":\"")) {
        if (!take_text(c, &client)) return 0;
        any = 1;
    }
    if (any ? TAKE(c, ",\"mode\":\"import\"") : TAKE(c, "\"mode\":\"import\"")) any = *imported = 1;
    (void)(any ? TAKE(c, ",\"agent\":\"browser\"") : TAKE(c, "\"agent\":\"browser\""));
    return TAKE(c, "}");
}

static int take_action(Cursor c, int64_t timestamp, const Tables *t, const Columns *to, size_t i) {
    const uint8_t *value = c.at;
    Text event, person, item, action, category = {0}, session = {0}, slate = {0}, group = {0}, currency = {0};
    int64_t occurred, received, integer, amount = 0, quantity = 1;
    int imported = 0;
    if (!TAKE(&c, "{\"kind\":\"action\",\"event_id\":\"") || !take_text(&c, &event)) return 0;
    if (!TAKE(&c, ",\"person\":\"") || !take_person(&c, &person) || !is_ascii(person)) return 0;
    if (!TAKE(&c, ",\"item_id\":\"") || !take_text(&c, &item)) return 0;
    if (!TAKE(&c, ",\"action\":\"") || !take_text(&c, &action)) return 0;
    if (!TAKE(&c, ",\"occurred_at\":") || !take_time(&c, &occurred)) return 0;
    if (!TAKE(&c, ",\"received_at\":") || !take_time(&c, &received)) return 0;
    if (TAKE(&c, ",\"category\":\"") && !take_text(&c, &category)) return 0;
    int known = TAKE(&c, ",\"known\":true");
    if (TAKE(&c, ",\"session_id\":\"") && !take_text(&c, &session)) return 0;
    if (TAKE(&c, ",\"slate_id\":\"") && !take_text(&c, &slate)) return 0;
    if (TAKE(&c, ",\"rank\":") && !take_integer(&c, &integer)) return 0;
    if (TAKE(&c, ",\"value\":") && !take_number(&c)) return 0;
    if (TAKE(&c, ",\"scale\":") && !take_scale(&c)) return 0;
    int negative = TAKE(&c, ",\"negative\":true");
    if (TAKE(&c, ",\"amount\":") && !take_integer(&c, &amount)) return 0;
    if (TAKE(&c, ",\"currency\":\"") && !take_text(&c, &currency)) return 0;
    if (TAKE(&c, ",\"quantity\":") && !take_integer(&c, &quantity)) return 0;
    if (TAKE(&c, ",\"dwell_ms\":") && !take_integer(&c, &integer)) return 0;
    (void)TAKE(&c, ",\"clamped\":true"); /* a context before it is msgspec's */
    if (TAKE(&c, ",\"group\":\"") && !take_text(&c, &group)) return 0;
    if (TAKE(&c, ",\"source\":{") && !take_source(&c, &imported)) return 0;
    if (!TAKE(&c, "}") || c.at != c.end) return 0;
    uint64_t named = name_in_8(action), name;
    size_t code = 0;
    while (code < t->n && t->names[code] != named) code++;
    if (code == t->n || !name_of(event, item, action, negative && named == t->minus, &name)) return 0;
    set_ids(to, i, person, value, name);
    to->item[i] = hash_of(t, item, ITEM);
    if (category.n) to->category[i] = (uint32_t)hash_of(t, category, CATEGORY);
    if (session.n) {
        uint64_t h = xxh3_64(session.at, session.n, 0);
        to->session[i] = h ? h : 1;
    }
    if (slate.n) to->slate[i] = xxh3_64(slate.at, slate.n, 0);
    to->occurred[i] = bounded(occurred, timestamp);
    to->received[i] = bounded(received, timestamp);
    to->action[i] = t->codes[code + (negative ? t->n : 0)];
    to->flags[i] = (uint8_t)((known ? 0 : UNKNOWN) | (imported ? IMPORTED : 0));
    to->group[i] = group.n > 0;
    set_price(to, i, amount, currency, quantity);
    to->kind[i] = ACTION;
    return 1;
}

static int take_experiments(Cursor *c) {
    Text text;
    int64_t version;
    if (TAKE(c, "]")) return 1;
    do {
        if (!TAKE(c, "[\"") || !take_text(c, &text) || !TAKE(c, ",") || !take_integer(c, &version)) return 0;
        if (!TAKE(c, ",\"") || !take_text(c, &text) || !TAKE(c, "]")) return 0;
    } while (TAKE(c, ","));
    return TAKE(c, "]");
}

static int take_served(Cursor c, const Columns *to, size_t i) {
    const uint8_t *value = c.at;
    Text person, slate, text;
    int64_t received, integer;
    uint8_t name[MAX_NAME_BYTES + 1];
    if (!TAKE(&c, "{\"kind\":\"served\",\"person\":\"") || !take_person(&c, &person)) return 0;
    if (!is_ascii(person) || !TAKE(&c, ",\"slate_id\":\"") || !take_text(&c, &slate)) return 0;
    if (slate.n > MAX_NAME_BYTES) return 0;
    if (!TAKE(&c, ",\"placement\":\"") || !take_text(&c, &text)) return 0;
    if (!TAKE(&c, ",\"received_at\":") || !take_time(&c, &received)) return 0;
    if (!TAKE(&c, ",\"items\":[") || !take_texts(&c)) return 0;
    if (TAKE(&c, ",\"explored\":") && !take_integer(&c, &integer)) return 0;
    if (TAKE(&c, ",\"probability\":") && !take_number(&c)) return 0;
    if (TAKE(&c, ",\"experiments\":[") && !take_experiments(&c)) return 0;
    if (TAKE(&c, ",\"took_ms\":") && !take_number(&c)) return 0;
    if (TAKE(&c, ",\"fallback\":\"") && !take_text(&c, &text)) return 0;
    if (TAKE(&c, ",\"release\":\"") && !take_text(&c, &text)) return 0;
    if (TAKE(&c, ",\"session_id\":\"") && !take_text(&c, &text)) return 0;
    if (TAKE(&c, ",\"sources\":[") && !take_texts(&c)) return 0;
    if (TAKE(&c, ",\"swapped\":[") && !take_integers(&c)) return 0;
    if (!TAKE(&c, "}") || c.at != c.end) return 0;
    name[0] = 0;
    memcpy(name + 1, slate.at, slate.n);
    uint64_t h = xxh3_64(name, slate.n + 1, 0);
    set_ids(to, i, person, value, h ? h : 1);
    to->kind[i] = SERVED;
    return 1;
}

/* `data`: n values one after the other, of `sizes` bytes. `wide` (10, n), `middle` (4, n), `small` (4, n): the
 * columns, zeros, in the order of `Columns`. `names`, `codes`: of `actions` actions (`Tables`). `remembered`:
 * mask + 1 entries of 64 bytes, zeros at first, or NULL. Answers how many were not taken: their kind is 255,
 * the rest of their rows 0. */
KERNEL size_t records_decode(const uint8_t *data, const int64_t *sizes, const int64_t *timestamps, size_t n,
                             uint64_t *wide, uint32_t *middle, uint8_t *small, const uint64_t *names,
                             const uint8_t *codes, size_t actions, uint64_t minus, uint8_t *remembered,
                             uint64_t mask) {
    const Tables tables = {names, codes, actions, minus, (Entry *)(void *)remembered, mask};
    const Columns to = {
        wide, wide + n, wide + 2 * n, wide + 3 * n, wide + 4 * n, wide + 5 * n, wide + 6 * n,
        (int64_t *)(wide + 7 * n), (int64_t *)(wide + 8 * n), (int64_t *)(wide + 9 * n),
        middle, middle + n, middle + 2 * n, middle + 3 * n,
        small, small + n, small + 2 * n, small + 3 * n,
    };
    size_t rest = 0;
    for (size_t i = 0; i < n; i++) {
        Cursor value = {data, data + sizes[i]};
        data = value.end;
        if (take_action(value, timestamps[i], &tables, &to, i) || take_served(value, &to, i)) continue;
        to.kind[i] = NOT_TAKEN;
        rest++;
    }
    return rest;
}
