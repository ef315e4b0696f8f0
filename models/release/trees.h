/* Boosted trees as arrays: `models.release.trees.Trees` makes and checks them. */
#ifndef FRESHET_TREES_H
#define FRESHET_TREES_H
#include "kernel.h"

#define MASK_LEAVES 8   /* of a tree that is evaluated by masks, at most */
#define MASK_COLUMNS 64 /* of a row, likewise */

KERNEL_TYPE typedef struct {
    int64_t width, trees;        /* columns of a row; how many trees */
    const int32_t *root;         /* (trees,) its first node */
    const int32_t *column;       /* (nodes,) what it tests; -1: it is a leaf */
    const float *value;          /* (nodes,) the largest value that goes to child 0; the weight of a leaf */
    const int32_t *child;        /* (nodes, 2) */
    const uint8_t *missing;      /* (nodes,) the child that NaN goes to */
    int64_t tests;               /* of each tree by masks; 0: none, some tree has too many leaves */
    const int32_t *test_column;  /* (trees, tests) */
    const float *test_value;     /* (trees, tests) */
    const int32_t *test_mask;    /* (trees, tests) the leaves that are left where the value is larger */
    const float *leaf;           /* (trees, MASK_LEAVES) weights */
    const float *start;          /* (width,) weights of the linear part; NULL: there is none */
    float base;
} tree_ensemble;

/* Scores (n,) of rows (n, width) by a `tree_ensemble`: 0, or -1 where `width` is not that of the trees. */
int trees_predict(const void *trees, const float *rows, int64_t n, int64_t width, float *out);

#endif
