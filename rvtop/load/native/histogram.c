/* Durations counted by bucket, as text. Pure: numbers in, bytes out; nothing of Python is called. */
#include "native.h"

#include <stdio.h>

enum { PAIR_SIZE = 36 }; /* "[bucket,count]," at its longest, and a zero */

/* The first bucket whose upper edge is not below value; the last one has none. near: where to look first. */
static size_t bucket_of(int64_t value, const int64_t *edges, size_t buckets, size_t near)
{
    size_t low = 0, high = buckets - 1;
    if (near < high && value <= edges[near] && (near == 0 || value > edges[near - 1]))
        return near;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (value <= edges[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* "[[bucket,count],…]" of n values, to be freed; NULL: no memory. edges: ascending, one for each bucket. */
char *count_buckets(const int64_t *values, size_t n, const int64_t *edges, size_t buckets, size_t *size)
{
    unsigned *counts = calloc(buckets, sizeof *counts);
    size_t kinds = 0, lowest = buckets, highest = 0, at = 0;
    for (size_t i = 0; counts && i < n; i++) {
        at = bucket_of(values[i], edges, buckets, at);
        kinds += counts[at]++ == 0;
        lowest = at < lowest ? at : lowest;
        highest = at > highest ? at : highest;
    }
    char *text = counts ? malloc(kinds * PAIR_SIZE + 3) : NULL;
    if (text) {
        char *p = text;
        *p++ = '[';
        for (at = lowest; kinds && at <= highest; at++)
            if (counts[at])
                p += sprintf(p, "[%zu,%u],", at, counts[at]);
        p -= kinds ? 1 : 0; /* no comma behind the last */
        *p++ = ']';
        *size = (size_t)(p - text);
    }
    free(counts);
    return text;
}
