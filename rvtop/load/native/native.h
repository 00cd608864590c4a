/* What the files of this module share: the types, what is small enough to be inlined, and who offers what. */
#pragma once

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* -- constants and types -------------------------------------------------------------------------------- */

enum {
    READ_SIZE = 1 << 18,
    RECORD_SIZE = (1 << 14) + 512, /* of a TLS record that is begun, which a read completes */
    STALE_NS = 1000000,   /* a turn that is older dates only what it is known to have begun with */
    CLOSE_NS = 5000,      /* two looks at the clock that belong together */
    EXACT_NS = 300000,    /* a turn that begins later than this after an arrival asks the kernel for dates */
    SAMPLE = 3,           /* reads of a turn that show whether it is late */
    POLL_COMMANDS_NS = 5000000, /* before a send, a look at the command pipe that is older is repeated */
};

/* Bytes that have to be met as they are, and holes in them (templates.py makes them). */
enum { MOST_HOLES = 64 /* of a template: heads have one for each of most headers */ };
enum { HOLE_NAME = 0, HOLE_NUMBER = 1, HOLE_TEXT = 2, HOLE_VALUE = 3, HOLE_ARM = 4, LAST_HOLE = HOLE_ARM };
enum { ARM_SIZE = 64 /* what is kept of the name of an arm */ };

typedef struct {
    char *bytes;
    size_t size, room;
    size_t holes[MOST_HOLES]; /* where they are */
    size_t hole_count;
} Template;

typedef struct {
    const char *begin, *end;
} Span;

/* How far a response has been read here. */
typedef enum {
    ELSEWHERE, /* Python reads it */
    HEAD,      /* the answer's head is to come */
    PREAMBLE,   /* the head matched the template; the first token is to come */
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
    Template head, preamble, first; /* how responses begin, once one was read: the HTTP head, perhaps a
                                    * chunk of no account, and the chunk with the first token */
    Numbers ttfts, gaps; /* of all connections since they were last taken */
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
    char arm[ARM_SIZE]; /* what fills the head's hole for an arm … */
    size_t arm_size;    /* … and its length */
    int handed;         /* whether any of the answer went to on_read, whose parser then needs all the rest */
    char *pattern;      /* a chunk's bytes before its text, then those after it */
    size_t before, after, room;
    PyObject *owner, *on_read, *on_lost, *on_rest;
    PyObject *tls;      /* a Tls (wire/tls.py), or NULL … */
    PyObject *put, *take; /* … two of its calls … */
    int even;           /* … and whether no record is begun there */
    PyObject *record;   /* of the request that is in flight; NULL: none is */
    int retired;        /* whether no further request may be sent on it */
    int idle;           /* whether it is one of the poller's idle ones … */
    int64_t idle_since;
    Conn *newer, *older; /* … and its neighbours there */
};

/* One that is sent now; its references belong to the caller. */
typedef struct {
    PyObject *record, *bytes;
    long long intended_ns, sent_ns;
    int known; /* whether the poller's template may be used for this one's response */
} Request;

/* -- core.c: numbers that grow, calls of Python --------------------------------------------------------- */

static inline int64_t in_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return in_ns(t);
}

static inline int64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC); /* the clock of time.perf_counter_ns */
}

static inline int append(Numbers *numbers, int64_t value)
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
static inline int parse_ns(PyObject *argument, int64_t *ns)
{
    *ns = PyLong_AsLongLong(argument);
    return *ns == -1 && PyErr_Occurred() ? -1 : 0;
}

PyObject *take(Numbers *numbers);
int reserve(char **bytes, size_t *room, size_t size);
int call(Poller *poller, PyObject *function, PyObject *argument);
int hand(Poller *poller, PyObject *function, PyObject *made);
int keep(PyObject *list, PyObject *made);

/* -- text.c: what bytes say ----------------------------------------------------------------------------- */

size_t whole_chunk(const char *p, const char *end, const char **body, size_t *body_size);
int take_ending(char *p, const char *end, size_t *size);
int one_text(const char *begin, const char *end);
void find_holes(Template *template);
const char *match(const Template *template, const char *p, const char *end, Span *text);

/* -- histogram.c ---------------------------------------------------------------------------------------- */

char *count_buckets(const int64_t *values, size_t n, const int64_t *edges, size_t buckets, size_t *size);

/* -- dates.c: when what is read had come ---------------------------------------------------------------- */

int64_t ahead_ns(void);
int64_t arrival_ns(Conn *self, int64_t stamp_ns);
void date(Conn *self, const char *p, const char *begin);

/* -- requests.c ----------------------------------------------------------------------------------------- */

void set_timer(Poller *self);
void set_idle(Conn *self);
void set_busy(Conn *self);
Conn *take_idle(Poller *self, int64_t at_ns);
void retire(Conn *self);
void set_in_native(Conn *self, int in_native);
int parse_request(PyObject *args, Request *into);
int write_now(Conn *self, PyObject *bytes, PyObject **rest);
int begin(Conn *self, const Request *request);
void finish(Conn *self);
int add_scheduled(Poller *self, PyObject *record, PyObject *request, int64_t intended_ns);
int64_t drop_scheduled_from(Poller *self, int64_t from_ns);
int send_due(Poller *self);
int run_due(Poller *self);

/* -- answers.c ------------------------------------------------------------------------------------------ */

int set_pattern(Conn *self, const char *before, size_t before_size, const char *after, size_t after_size);
int take_read(Conn *self, char *begin, const char *end, int64_t stamp_ns);
int read_conn(Conn *self, uint32_t events);

/* -- records.c ------------------------------------------------------------------------------------------ */

int set_tls(Conn *self, PyObject *tls);
void clear_tls(Conn *self);
PyObject *encrypted(Conn *self, PyObject *bytes);
int take_records(Conn *self, size_t size, int64_t stamp_ns);

/* -- turn.c --------------------------------------------------------------------------------------------- */

enum { MOST_EVENTS = 4096 }; /* of one turn */

int watch_conn(int epoll, int how, int fd, Conn *conn);
int turn(Poller *self, int64_t for_ns);

/* -- conn.c and poller.c: the two types as Python has them ----------------------------------------------- */

extern PyTypeObject *conn_type;
extern PyType_Spec conn_spec, poller_spec;
