/* What _native.c is made of: the Poller and the Conn, numbers that grow, clocks, calls of Python. */
#pragma once

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#include "_native_text.h"

enum {
    READ_SIZE = 1 << 18,
    STALE_NS = 1000000,   /* a turn that is older dates only what it is known to have begun with */
    CLOSE_NS = 5000,      /* two looks at the clock that belong together */
    EXACT_NS = 300000,    /* a turn that begins later than this after an arrival asks the kernel for dates */
    SAMPLE = 3,           /* reads of a turn that tell whether it is late */
    POLL_COMMANDS_NS = 5000000,   /* nothing is sent behind a look for words that is older */
};

/* How far an answer has been read here. */
typedef enum {
    ELSEWHERE, /* not here: Python has the say */
    HEAD,      /* the answer's head is to come */
    PREAMBLE,   /* the head is one of those that the poller knows; the first token is to come */
    TOKENS,    /* at the boundary of a chunk, with a pattern */
} Place;

typedef struct {
    int64_t *items;
    size_t size, room;
} Numbers;

typedef struct Conn Conn;

/* A request that is to be sent at its time, on whichever connection is idle then. */
typedef struct Scheduled {
    struct Scheduled *next;
    PyObject *record, *request;
    int64_t intended_ns;
} Scheduled;

typedef struct {
    PyObject_HEAD
    int epoll, timer;
    int64_t due_ns;     /* when on_due wants to be called, CLOCK_MONOTONIC … */
    int64_t tick_ns;    /* … and on_tick */
    int64_t timer_ns;   /* what the timer is set to */
    Scheduled *queue, *queue_tail; /* in the order of their time … */
    int scheduled;                   /* … and how many they are */
    int64_t last_due_ns;   /* the time of the last that was sent */
    Conn *newest, *oldest; /* the idle ones, by when they became so */
    int idle;                /* how many they are */
    long long idle_limit_ns; /* those that are idle for longer are not used again */
    int64_t asked_ns, turn_ns; /* the times before and after this turn's epoll_wait */
    int64_t before_ns;  /* the time before the last turn's */
    int64_t ahead_ns;   /* CLOCK_REALTIME, which the kernel dates by, less CLOCK_MONOTONIC */
    int64_t last_polled_ns;   /* the last time the command pipe was known to be empty */
    int command_fd;           /* readable while a command waits; -1: none is watched */
    int unsure;         /* reads to come until this turn is known to be in time; below 0: it is late */
    PyObject *on_due, *on_tick, *on_no_connection, *on_completed, *on_command;
    Template head, preamble, first; /* how answers begin here, once that is learned: the HTTP head, perhaps a
                                    * chunk of no account, and the chunk with the first token */
    Numbers ttfts, gaps; /* of all streams since they were last taken */
    PyObject *sent;     /* what was scheduled and sent since that was last taken: (record, owner, sent_ns) */
    PyObject *completed;   /* the answers that have ended since: see set_completed */
    int most_waiting;   /* how many of these may wait at the end of a turn */
    int in_native;          /* answers that are read here alone */
    int polling;
    int called;         /* whether Python was, in this poll */
    struct epoll_event *events;
    char *buffer;
} Poller;

/* What every token needs comes first: so it lies in few cache lines. */
struct Conn {
    PyObject_HEAD
    Poller *poller;
    int fd;             /* -1: released */
    Place place;
    int exact;          /* whether the last read was dated by the kernel */
    int in_native;
    int64_t sent_ns, read_ns, last_ns;
    Numbers gaps;       /* of the request since they were last taken */
    int64_t intended_ns, head_ns, first_ns;
    int opened;         /* whether an event was taken here */
    int handed;         /* whether any of the answer went to on_read, whose parser then needs all the rest */
    char *pattern;      /* a chunk's bytes before its text, then those after it */
    size_t before, after, room;
    PyObject *owner, *on_read, *on_lost, *on_rest;
    PyObject *record;   /* of the request that is in flight; NULL: none is */
    int idle;           /* whether it is one of the poller's idle ones … */
    int64_t idle_since;
    Conn *newer, *older; /* … and its neighbours there */
};

static int64_t in_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return in_ns(t);
}

static int64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC); /* the clock of time.perf_counter_ns */
}

/* CLOCK_REALTIME less CLOCK_MONOTONIC, as it is now: the one is set and slewed, the other is only slewed. */
static int64_t ahead_ns(void)
{
    int64_t before, wall, after;
    int tries = 3; /* an interrupt between the clocks would be taken for their difference */
    do {
        before = now_ns();
        wall = clock_ns(CLOCK_REALTIME);
        after = now_ns();
    } while (after - before > CLOSE_NS && --tries);
    return wall - (before + after) / 2;
}

static int append(Numbers *numbers, int64_t value)
{
    if (numbers->size == numbers->room) {
        size_t room = numbers->room ? numbers->room * 2 : 64;
        int64_t *items = realloc(numbers->items, room * sizeof *items);
        if (!items) {
            PyErr_NoMemory();
            return -1;
        }
        numbers->items = items;
        numbers->room = room;
    }
    numbers->items[numbers->size++] = value;
    return 0;
}

/* A time that Python gave. -1: it is none, and that is raised. */
static int parse_ns(PyObject *argument, int64_t *ns)
{
    *ns = PyLong_AsLongLong(argument);
    return *ns == -1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *take(Numbers *numbers)
{
    PyObject *bytes =
        PyBytes_FromStringAndSize((char *)numbers->items, (Py_ssize_t)(numbers->size * sizeof(int64_t)));
    if (bytes)
        numbers->size = 0;
    return bytes;
}

/* Makes room for size bytes at *bytes. */
static int reserve(char **bytes, size_t *room, size_t size)
{
    if (size <= *room)
        return 0;
    char *made = realloc(*bytes, size);
    if (!made) {
        PyErr_NoMemory();
        return -1;
    }
    *bytes = made;
    *room = size;
    return 0;
}

/* Calls function, with an argument if that is not NULL. -1: it raised. */
static int call(Poller *poller, PyObject *function, PyObject *argument)
{
    poller->called = 1;
    if (!function) {
        PyErr_SetString(PyExc_RuntimeError, "there is nobody to be called: the poller is closed, or not set up");
        return -1;
    }
    Py_INCREF(function); /* what is called may let go of the last other reference to it */
    PyObject *said = PyObject_CallFunctionObjArgs(function, argument, NULL);
    Py_DECREF(function);
    Py_XDECREF(said);
    return said ? 0 : -1;
}

/* The same with a new reference, which is taken; -1 also when it could not be made. */
static int hand(Poller *poller, PyObject *function, PyObject *made)
{
    int failed = made ? call(poller, function, made) : -1;
    Py_XDECREF(made);
    return failed;
}

/* Adds a new reference to a list, which takes it; -1 also when it could not be made. */
static int keep(PyObject *list, PyObject *made)
{
    int failed = made ? PyList_Append(list, made) : -1;
    Py_XDECREF(made);
    return failed;
}
