/* Deadlines in a 4-ary heap (two cache lines a level). Nothing is ever taken out of the middle: the timer
 * of a stream that ended is dropped by its owner when it comes up, because the generation differs.
 */
#ifndef TIMERS_H
#define TIMERS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct timer {
    int64_t due;
    int fd;
    uint32_t gen;
};
static struct timer *heap;
static size_t heap_len, heap_cap;

static void timer_push(int64_t due, int fd, uint32_t gen)
{
    if (heap_len == heap_cap) {
        heap_cap = heap_cap ? heap_cap * 2 : 1024;
        heap = realloc(heap, heap_cap * sizeof *heap);
        if (!heap) {
            fputs("mock: out of memory\n", stderr);
            exit(1);
        }
    }
    size_t i = heap_len++;
    while (i && heap[(i - 1) / 4].due > due) {
        heap[i] = heap[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    heap[i] = (struct timer){due, fd, gen};
}

static struct timer timer_pop(void)
{
    struct timer top = heap[0], last = heap[--heap_len];
    size_t i = 0;
    for (;;) {
        size_t least = 4 * i + 1, end = least + 4 < heap_len ? least + 4 : heap_len;
        if (least >= heap_len) break;
        for (size_t k = least + 1; k < end; k++)
            if (heap[k].due < heap[least].due) least = k;
        if (heap[least].due >= last.due) break;
        heap[i] = heap[least];
        i = least;
    }
    if (heap_len) heap[i] = last;
    return top;
}

#endif
