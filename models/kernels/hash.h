/* The hashes of ids and names, as the packages xxhash and hashlib give them. */
#ifndef FRESHET_HASH_H
#define FRESHET_HASH_H
#include "kernel.h"

/* XXH3, 64 bits, of n bytes (Yann Collet, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md). */
uint64_t xxh3_64(const uint8_t *data, size_t n, uint64_t seed);

/* BLAKE2b without a key (RFC 7693) of n bytes, with a digest of `size` bytes, 1 to 8, little-endian. */
uint64_t blake2b(const uint8_t *data, size_t n, int size);

#endif
