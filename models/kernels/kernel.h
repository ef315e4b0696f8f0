/* What every C file of the kernel includes. No function keeps state, and none allocates. */
#ifndef FRESHET_KERNEL_H
#define FRESHET_KERNEL_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rows and hashes are little-endian: numpy runs here"
#endif

/* before a function that Python calls: models/kernels/build.py reads its declaration */
#define KERNEL
/* before a type that Python reads */
#define KERNEL_TYPE

/* Before a loop over numbers side by side: of it there is plain C, and where compiler and loader can choose at run
 * time, code for AVX2, which gives the same bits (no sum is reordered, no product fused). */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define BY_CPU __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define BY_CPU
#endif

/* any address: memcpy of a fixed size is one load or store */
static inline uint16_t load16(const void *at) { uint16_t v; memcpy(&v, at, sizeof v); return v; }
static inline uint32_t load32(const void *at) { uint32_t v; memcpy(&v, at, sizeof v); return v; }
static inline uint64_t load64(const void *at) { uint64_t v; memcpy(&v, at, sizeof v); return v; }
static inline void store16(void *at, uint16_t v) { memcpy(at, &v, sizeof v); }
static inline void store32(void *at, uint32_t v) { memcpy(at, &v, sizeof v); }
static inline void store64(void *at, uint64_t v) { memcpy(at, &v, sizeof v); }

#endif
