/* XXH3 with 64 bits, written after its specification:
 * https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md */
#include "hash.h"

enum { SECRET_SIZE = 192, STRIPE = 64, STRIPES_A_BLOCK = (SECRET_SIZE - STRIPE) / 8 };

static const uint8_t SECRET[SECRET_SIZE] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};
static const uint64_t P32_1 = 0x9E3779B1, P32_2 = 0x85EBCA77, P32_3 = 0xC2B2AE3D;
static const uint64_t P64_1 = 0x9E3779B185EBCA87, P64_2 = 0xC2B2AE3D27D4EB4F;
static const uint64_t P64_3 = 0x165667B19E3779F9, P64_4 = 0x85EBCA77C2B2AE63;
static const uint64_t P64_5 = 0x27D4EB2F165667C5;

static inline uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

static inline uint64_t fold128(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t avalanche(uint64_t h) {
    h ^= h >> 37;
    h *= 0x165667919E3779F9;
    return h ^ h >> 32;
}

static inline uint64_t avalanche_xxh64(uint64_t h) {
    h = (h ^ h >> 33) * P64_2;
    h = (h ^ h >> 29) * P64_3;
    return h ^ h >> 32;
}

static inline uint64_t mix16(const uint8_t *at, const uint8_t *secret, uint64_t seed) {
    return fold128(load64(at) ^ (load64(secret) + seed), load64(at + 8) ^ (load64(secret + 8) - seed));
}

static uint64_t up_to_16(const uint8_t *data, size_t n, uint64_t seed) {
    if (n > 8) {
        uint64_t low = load64(data) ^ ((load64(SECRET + 24) ^ load64(SECRET + 32)) + seed);
        uint64_t high = load64(data + n - 8) ^ ((load64(SECRET + 40) ^ load64(SECRET + 48)) - seed);
        return avalanche(n + __builtin_bswap64(low) + high + fold128(low, high));
    }
    if (n >= 4) {
        seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
        uint64_t both = load32(data + n - 4) + ((uint64_t)load32(data) << 32);
        uint64_t h = both ^ ((load64(SECRET + 8) ^ load64(SECRET + 16)) - seed);
        h ^= rotate(h, 49) ^ rotate(h, 24);
        h *= 0x9FB21C651E98DF25;
        h ^= (h >> 35) + n;
        h *= 0x9FB21C651E98DF25;
        return h ^ h >> 28;
    }
    if (n) {
        uint64_t both = (uint64_t)data[0] << 16 | (uint64_t)data[n >> 1] << 24 | data[n - 1] | (uint64_t)n << 8;
        return avalanche_xxh64(both ^ ((uint64_t)(load32(SECRET) ^ load32(SECRET + 4)) + seed));
    }
    return avalanche_xxh64(seed ^ load64(SECRET + 56) ^ load64(SECRET + 64));
}

static uint64_t up_to_128(const uint8_t *data, size_t n, uint64_t seed) {
    uint64_t sum = n * P64_1;
    for (size_t i = (n - 1) / 32 + 1; i-- > 0;) {
        sum += mix16(data + 16 * i, SECRET + 32 * i, seed);
        sum += mix16(data + n - 16 * (i + 1), SECRET + 32 * i + 16, seed);
    }
    return avalanche(sum);
}

static uint64_t up_to_240(const uint8_t *data, size_t n, uint64_t seed) {
    uint64_t sum = n * P64_1;
    for (size_t i = 0; i < 8; i++) sum += mix16(data + 16 * i, SECRET + 16 * i, seed);
    sum = avalanche(sum);
    for (size_t i = 8; i < n / 16; i++) sum += mix16(data + 16 * i, SECRET + 16 * (i - 8) + 3, seed);
    return avalanche(sum + mix16(data + n - 16, SECRET + 136 - 17, seed));
}

static inline void accumulate(uint64_t sums[8], const uint8_t *at, const uint8_t *secret) {
    for (int i = 0; i < 8; i++) {
        uint64_t value = load64(at + 8 * i), keyed = value ^ load64(secret + 8 * i);
        sums[i ^ 1] += value;
        sums[i] += (uint64_t)(uint32_t)keyed * (keyed >> 32);
    }
}

static uint64_t longer(const uint8_t *data, size_t n, uint64_t seed) {
    uint64_t sums[8] = {P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1};
    uint8_t secret[SECRET_SIZE];
    for (int i = 0; i < SECRET_SIZE; i += 16) {
        store64(secret + i, load64(SECRET + i) + seed);
        store64(secret + i + 8, load64(SECRET + i + 8) - seed);
    }
    size_t stripes = (n - 1) / STRIPE;
    for (size_t i = 0; i < stripes; i++) {
        accumulate(sums, data + STRIPE * i, secret + 8 * (i % STRIPES_A_BLOCK));
        if (i % STRIPES_A_BLOCK != STRIPES_A_BLOCK - 1) continue;
        for (int k = 0; k < 8; k++) {
            sums[k] ^= sums[k] >> 47 ^ load64(secret + SECRET_SIZE - STRIPE + 8 * k);
            sums[k] *= P32_1;
        }
    }
    accumulate(sums, data + n - STRIPE, secret + SECRET_SIZE - STRIPE - 7);
    uint64_t h = n * P64_1;
    for (int i = 0; i < 4; i++) {
        const uint8_t *at = secret + 11 + 16 * i;
        h += fold128(sums[2 * i] ^ load64(at), sums[2 * i + 1] ^ load64(at + 8));
    }
    return avalanche(h);
}

uint64_t xxh3_64(const uint8_t *data, size_t n, uint64_t seed) {
    if (n <= 16) return up_to_16(data, n, seed);
    if (n <= 128) return up_to_128(data, n, seed);
    if (n <= 240) return up_to_240(data, n, seed);
    return longer(data, n, seed);
}

/* `xxh3_64` of bytes, for the tests. */
KERNEL uint64_t hash_xxh3(const uint8_t *data, size_t n, uint64_t seed) {
    return xxh3_64(data, n, seed);
}
