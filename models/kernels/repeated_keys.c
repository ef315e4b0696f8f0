/* Whether an object of a JSON text has a key twice, at any depth: models/kernels/repeated_keys.py has the
 * definition. One pass over the bytes; what is no JSON may be given, and any answer is right then. */
#include "json.h"

enum { MAX_DEPTH = 256, MAX_KEYS = 256, MAX_ESCAPED = 256 };
enum { ONCE, REPEATED, UNSURE };

typedef struct {
    uint64_t print; /* equal where two keys are equal */
    const uint8_t *at;
    uint32_t n, escaped;
} Key;

/* From behind an opening quote to the closing one; 0 without one. */
static const uint8_t *closing_quote(const uint8_t *at, const uint8_t *end, uint32_t *escaped) {
    const uint64_t ones = 0x0101010101010101, high = 0x8080808080808080;
    for (;;) {
        while (end - at >= 8) {
            uint64_t x = load64(at), quote = x ^ ones * '"', slash = x ^ ones * '\\';
            uint64_t found = (((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & high;
            if (found) {
                at += __builtin_ctzll(found) / 8;
                break;
            }
            at += 8;
        }
        if (at >= end) return 0;
        if (*at == '"') return at;
        if (*at == '\\') {
            if (end - at < 2) return 0;
            *escaped = 1;
            at++;
        }
        at++;
    }
}

static int hex4(const uint8_t *at, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t c = at[i], digit = c - '0';
        if (digit > 9) {
            digit = (c | 0x20) - 'a';
            if (digit > 5) return 0;
            digit += 10;
        }
        *code = *code << 4 | digit;
    }
    return 1;
}

/* The bytes of a code point, of a lone surrogate too. */
static uint8_t *put_letter(uint8_t *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (uint8_t)code;
        return to;
    }
    if (code < 0x800) *to++ = (uint8_t)(0xC0 | code >> 6);
    else {
        if (code < 0x10000) *to++ = (uint8_t)(0xE0 | code >> 12);
        else {
            *to++ = (uint8_t)(0xF0 | code >> 18);
            *to++ = (uint8_t)(0x80 | (code >> 12 & 0x3F));
        }
        *to++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    }
    *to++ = (uint8_t)(0x80 | (code & 0x3F));
    return to;
}

/* A text without its escapes, which is no longer than with them; its bytes, or -1 where an escape is none. */
static int64_t unescape(const uint8_t *at, size_t n, uint8_t *out) {
    const uint8_t *end = at + n;
    uint8_t *to = out;
    while (at < end) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        if (end - at < 2) return -1;
        uint8_t c = at[1];
        at += 2;
        if (c == 'u') {
            uint32_t code, low;
            if (end - at < 4 || !hex4(at, &code)) return -1;
            at += 4;
            if (code >> 10 == 0x36 && end - at >= 6 && at[0] == '\\' && at[1] == 'u' && hex4(at + 2, &low) &&
                low >> 10 == 0x37) {
                code = 0x10000 + ((code & 0x3FF) << 10 | (low & 0x3FF));
                at += 6;
            }
            to = put_letter(to, code);
            continue;
        }
        switch (c) {
        case '"': case '\\': case '/': break;
        case 'b': c = '\b'; break;
        case 'f': c = '\f'; break;
        case 'n': c = '\n'; break;
        case 'r': c = '\r'; break;
        case 't': c = '\t'; break;
        default: return -1;
        }
        *to++ = c;
    }
    return to - out;
}

/* `readable`: bytes from `at` on that may be read, at least n. */
static uint64_t print_of(const uint8_t *at, size_t n, size_t readable) {
    const uint64_t odd = 0x9E3779B185EBCA87;
    uint64_t first = 0;
    if (n >= 8) {
        uint64_t last = load64(at + n - 8);
        return (load64(at) * odd ^ (last << 31 | last >> 33)) * odd + n;
    }
    if (readable >= 8) first = load64(at) & (((uint64_t)1 << 8 * n) - 1);
    else memcpy(&first, at, n);
    return first * odd + n;
}

/* Whether two keys of one print are equal. */
static int same(const Key *a, const Key *b) {
    uint8_t texts[2][MAX_ESCAPED];
    const Key *keys[2] = {a, b};
    const uint8_t *at[2];
    int64_t n[2];
    for (int i = 0; i < 2; i++) {
        at[i] = keys[i]->escaped ? texts[i] : keys[i]->at;
        n[i] = keys[i]->escaped ? unescape(keys[i]->at, keys[i]->n, texts[i]) : keys[i]->n;
    }
    return n[0] == n[1] && !memcmp(at[0], at[1], (size_t)n[0]);
}

/* A key from `at` on: its print. Answers 0 where it is too long, or an escape is none. */
static int take_key(Key *key, const uint8_t *end) {
    if (!key->escaped) {
        key->print = print_of(key->at, key->n, (size_t)(end - key->at));
        return 1;
    }
    uint8_t text[MAX_ESCAPED];
    if (key->n > MAX_ESCAPED) return 0;
    int64_t n = unescape(key->at, key->n, text);
    if (n < 0) return 0;
    key->print = print_of(text, (size_t)n, (size_t)n);
    return 1;
}

static inline int is_blank(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/* `deepest`: objects within so many others, and themselves, are looked at. UNSURE: the text is nested too
 * deeply, or too many keys are open at a time, or an escaped one is too long; the definition has to say. */
KERNEL int32_t json_repeated_key(const uint8_t *data, size_t size, int32_t deepest) {
    const uint8_t *at = data, *end = data + size;
    Key keys[MAX_KEYS];
    uint32_t starts[MAX_DEPTH], start = 0, count = 0;
    int32_t depth = 0;
    while (at < end) {
        uint8_t c = *at++;
        if (c == '"') {
            Key key = {0, at, 0, 0};
            const uint8_t *quote = closing_quote(at, end, &key.escaped);
            if (!quote || (size_t)(quote - at) > UINT32_MAX) return UNSURE;
            key.n = (uint32_t)(quote - at);
            at = quote + 1;
            while (at < end && is_blank(*at)) at++;
            if (at == end || *at != ':' || !depth || depth > deepest) continue;
            if (count == MAX_KEYS || !take_key(&key, end)) return UNSURE;
            for (uint32_t i = start; i < count; i++)
                if (keys[i].print == key.print && same(&keys[i], &key)) return REPEATED;
            keys[count++] = key;
        } else if (c == '{') {
            if (depth == MAX_DEPTH) return UNSURE;
            starts[depth++] = start;
            start = count;
        } else if (c == '}' && depth) {
            count = start;
            start = starts[--depth];
        }
    }
    return ONCE;
}
