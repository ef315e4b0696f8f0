/* A scanner of canonical JSON, as msgspec writes it: no blanks, fields in their order, no escapes.
 *
 * Each function takes what it is named for and moves on, or answers 0 (the cursor is anywhere then): the
 * caller gives the whole value to msgspec, which knows what else is valid. So a scanner takes less than
 * msgspec does, and never more. */
#ifndef FRESHET_JSON_H
#define FRESHET_JSON_H
#include "kernel.h"

typedef struct {
    const uint8_t *at, *end;
} Cursor;

typedef struct {
    const uint8_t *at;
    size_t n;
} Text;

static inline int take_bytes(Cursor *c, const char *bytes, size_t n) {
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, bytes, n)) return 0;
    c->at += n;
    return 1;
}

/* these very bytes: a string literal */
#define TAKE(c, literal) take_bytes(c, literal, sizeof literal - 1)

/* The bytes of one letter beyond ASCII in well-formed UTF-8 (Unicode 15, table 3-7); 0: it is not. */
static inline size_t letter_size(const uint8_t *at, const uint8_t *end) {
    uint8_t low = 0x80, high = 0xBF;
    size_t n;
    if (*at >= 0xC2 && *at <= 0xDF) n = 2;
    else if (*at >= 0xE0 && *at <= 0xEF) n = 3;
    else if (*at >= 0xF0 && *at <= 0xF4) n = 4;
    else return 0;
    if ((size_t)(end - at) < n) return 0;
    if (*at == 0xE0) low = 0xA0;
    if (*at == 0xED) high = 0x9F;
    if (*at == 0xF0) low = 0x90;
    if (*at == 0xF4) high = 0x8F;
    if (at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if (at[i] < 0x80 || at[i] > 0xBF) return 0;
    return n;
}

/* A string from behind its opening quote to behind its closing one. */
static inline int take_text(Cursor *c, Text *text) {
    const uint64_t ones = 0x0101010101010101, high = 0x8080808080808080;
    const uint8_t *at = c->at;
    for (;;) {
        while (c->end - at >= 8) { /* eight bytes that are plain ASCII, neither quote nor backslash */
            uint64_t x = load64(at), quote = x ^ ones * '"', slash = x ^ ones * '\\';
            uint64_t found = x | ((x - ones * 0x20) & ~x);
            found |= ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
            if (found & high) {
                at += __builtin_ctzll(found & high) / 8;
                break;
            }
            at += 8;
        }
        if (at >= c->end) return 0;
        if (*at == '"') break;
        if (*at < 0x20 || *at == '\\') return 0;
        size_t n = *at < 0x80 ? 1 : letter_size(at, c->end);
        if (!n) return 0;
        at += n;
    }
    text->at = c->at;
    text->n = (size_t)(at - c->at);
    c->at = at + 1;
    return 1;
}

/* Digits without needless zeros, `most` of them at most; how many, or 0. */
static inline size_t take_digits(Cursor *c, size_t most, int64_t *value) {
    const uint8_t *from = c->at;
    int64_t sum = 0;
    while (c->at < c->end && (uint8_t)(*c->at - '0') < 10 && (size_t)(c->at - from) < most)
        sum = sum * 10 + (*c->at++ - '0');
    size_t n = (size_t)(c->at - from);
    if (n > 1 && *from == '0') return 0;
    *value = sum;
    return n;
}

/* An integer of 18 digits at most. */
static inline int take_integer(Cursor *c, int64_t *value) {
    int negative = TAKE(c, "-");
    if (!take_digits(c, 18, value)) return 0;
    if (negative && !*value) return 0;
    if (negative) *value = -*value;
    return 1;
}

/* A number without an exponent, 15 digits at most before the point and as many behind it. */
static inline int take_number(Cursor *c) {
    int64_t value;
    int negative = TAKE(c, "-");
    if (!take_digits(c, 15, &value)) return 0;
    if (!TAKE(c, ".")) return !negative || value;
    const uint8_t *from = c->at;
    while (c->at < c->end && (uint8_t)(*c->at - '0') < 10) c->at++;
    return c->at > from && c->at - from <= 18;
}

/* A list of strings, from behind its bracket. */
static inline int take_texts(Cursor *c) {
    Text text;
    if (TAKE(c, "]")) return 1;
    do {
        if (!TAKE(c, "\"") || !take_text(c, &text)) return 0;
    } while (TAKE(c, ","));
    return TAKE(c, "]");
}

/* A list of integers, likewise. */
static inline int take_integers(Cursor *c) {
    int64_t value;
    if (TAKE(c, "]")) return 1;
    do {
        if (!take_integer(c, &value)) return 0;
    } while (TAKE(c, ","));
    return TAKE(c, "]");
}

#endif
