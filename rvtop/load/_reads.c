/* The read path of a load worker: sockets, one epoll instance, and the chunks that differ in their text alone.
 *
 * A streamed completion is hundreds of small reads that all look alike. Here each costs a recv and two
 * comparisons; the interpreter sees only what is out of the ordinary (ends, faults, what it has not learned),
 * from the boundary of an HTTP chunk on. What is plain is settled in Python: `Completion` in stream.py teaches
 * a Stream its pattern, known.py teaches the Hub how answers begin; connection.py is the only user. Without
 * this module the same reads go through asyncio.
 *
 * Built against the stable ABI of Python 3.11, Linux only; see .ci/build_reads.py.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "_reads_text.h"

enum {
    MOST_EVENTS = 4096,   /* of one turn */
    READ_SIZE = 1 << 18,
    DUE_EVERY = 8,        /* streams of a turn between two looks at the clock for a request that is due */
    STALE_NS = 1000000,   /* a turn that is older dates only what it is known to have begun with */
    CLOSE_NS = 5000,      /* two looks at the clock that belong together */
    EXACT_NS = 300000,    /* a turn that begins later than this after an arrival asks the kernel for dates */
    SAMPLE = 3,           /* reads of a turn that tell whether it is late */
};

/* How far an answer has been read here. */
typedef enum {
    ELSEWHERE, /* not here: Python has the say */
    HEAD,      /* the answer's head is to come */
    OPENING,   /* the head is one of those that the hub knows; the first token is to come */
    TOKENS,    /* at the boundary of a chunk, with a pattern */
} Place;

typedef struct {
    int64_t *items;
    size_t size, room;
} Numbers;

typedef struct Stream Stream;

typedef struct {
    PyObject_HEAD
    int epoll, timer;
    int64_t due_ns;     /* when on_due wants to be called, CLOCK_MONOTONIC */
    int64_t timer_ns;   /* what the timer is set to */
    Stream *launched, *last_launched; /* those with a request that is to be sent at its time, in that order */
    int64_t asked_ns, turn_ns; /* the times before and after this turn's epoll_wait */
    int64_t before_ns;  /* the time before the last turn's */
    int64_t ahead_ns;   /* CLOCK_REALTIME, which the kernel dates by, less CLOCK_MONOTONIC */
    int unsure;         /* reads to come until this turn is known to be in time; below 0: it is late */
    PyObject *on_due;
    Template head, opening, first; /* how answers begin here, once that is learned: the HTTP head, perhaps a
                                    * chunk of no account, and the chunk with the first token */
    Numbers ttfts, gaps; /* of all streams since they were last taken */
    Stream *landed, *last_landed; /* answers that have ended, whose ends Python is to hear of: the first and last */
    int waiting;        /* how many they are … */
    int most_waiting;   /* … and how many may be at the end of a turn */
    int aloft;          /* answers that are read here alone */
    int polling;
    struct epoll_event *events;
    char *buffer;
} Hub;

struct Stream {
    PyObject_HEAD
    Hub *hub;
    int fd;             /* -1: released */
    Place place;
    int aloft;
    int opened;         /* whether an event was taken here */
    int handed;         /* whether any of the answer went to on_read, whose parser then needs all the rest */
    int exact;          /* whether the last read was dated by the kernel */
    int64_t intended_ns, sent_ns, head_ns, first_ns, read_ns, last_ns;
    PyObject *on_read, *on_end, *on_lost, *on_rest;
    PyObject *request;  /* that is to be sent at intended_ns */
    char *pattern;      /* a chunk's bytes before its text, then those after it */
    size_t before, after, room;
    Numbers gaps;       /* of the request since they were last taken */
    PyObject *ending;   /* what on_end is to get; then it is one of the hub's landed */
    Stream *next;       /* of those, or of the hub's launched */
};

static PyTypeObject *stream_type;

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

/* -- Stream -------------------------------------------------------------------------------------------- */

/* The timer goes off when something is due. */
static void set_timer(Hub *self)
{
    int64_t at_ns = self->due_ns;
    if (self->launched && self->launched->intended_ns < at_ns)
        at_ns = self->launched->intended_ns;
    if (at_ns < 1)
        at_ns = 1; /* zero would disarm it */
    if (at_ns == self->timer_ns)
        return;
    self->timer_ns = at_ns;
    struct itimerspec spec = {.it_value = {at_ns / 1000000000, at_ns % 1000000000}};
    timerfd_settime(self->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void set_aloft(Stream *self, int aloft)
{
    self->hub->aloft += aloft - self->aloft;
    self->aloft = aloft;
}

static void release(Stream *self)
{
    if (self->fd < 0)
        return;
    set_aloft(self, 0);
    epoll_ctl(self->hub->epoll, EPOLL_CTL_DEL, self->fd, NULL);
    self->fd = -1;
    self->place = ELSEWHERE;
    Py_CLEAR(self->on_read);
    Py_CLEAR(self->on_end);
    Py_CLEAR(self->on_lost);
    Py_CLEAR(self->on_rest);
    Py_CLEAR(self->request);
    Py_DECREF((PyObject *)self); /* the registration's own reference */
}

static PyObject *stream_release(PyObject *object, PyObject *unused)
{
    (void)unused;
    release((Stream *)object);
    Py_RETURN_NONE;
}

/* Begins a request: how much of it the socket took, 0 if that failed. */
static ssize_t begin_request(Stream *self, const char *data, size_t size, int known)
{
    self->head_ns = self->first_ns = self->read_ns = self->last_ns = 0;
    self->opened = self->handed = 0;
    self->place = known && self->fd >= 0 && self->hub->head.size ? HEAD : ELSEWHERE;
    self->gaps.size = 0;
    set_aloft(self, self->place == HEAD);
    ssize_t n = self->fd < 0 ? 0 : send(self->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n < 0 ? 0 : n;
}

/* What the socket does not take, be it for an error, is left to the caller to write. */
static PyObject *stream_send(PyObject *object, PyObject *args)
{
    Stream *self = (Stream *)object;
    const char *data;
    Py_ssize_t size;
    long long intended_ns, sent_ns;
    int known;
    if (!PyArg_ParseTuple(args, "y#LLp:send", &data, &size, &intended_ns, &sent_ns, &known))
        return NULL;
    self->intended_ns = intended_ns;
    self->sent_ns = sent_ns;
    return PyLong_FromSsize_t(begin_request(self, data, (size_t)size, known));
}

static PyObject *stream_launch(PyObject *object, PyObject *args)
{
    Stream *self = (Stream *)object;
    Hub *hub = self->hub;
    PyObject *request;
    long long intended_ns;
    if (!PyArg_ParseTuple(args, "SL:launch", &request, &intended_ns))
        return NULL;
    if (self->request || self->ending || self->fd < 0
        || (hub->launched && intended_ns < hub->last_launched->intended_ns)) {
        PyErr_SetString(PyExc_ValueError, "the stream is not idle, or the time is before that of the last launch");
        return NULL;
    }
    Py_INCREF(request);
    self->request = request;
    self->intended_ns = intended_ns;
    self->sent_ns = 0;
    Py_INCREF(object); /* the queue's own */
    *(hub->launched ? &hub->last_launched->next : &hub->launched) = self;
    hub->last_launched = self;
    set_timer(hub);
    Py_RETURN_NONE;
}

static int set_pattern(Stream *self, const char *before, size_t before_size, const char *after, size_t after_size)
{
    if (reserve(&self->pattern, &self->room, before_size + after_size))
        return -1;
    memcpy(self->pattern, before, before_size);
    memcpy(self->pattern + before_size, after, after_size);
    self->before = before_size;
    self->after = after_size;
    return 0;
}

static PyObject *stream_arm(PyObject *object, PyObject *args)
{
    Stream *self = (Stream *)object;
    const char *before, *after;
    Py_ssize_t before_size, after_size;
    long long last_ns;
    if (!PyArg_ParseTuple(args, "y#y#L:arm", &before, &before_size, &after, &after_size, &last_ns))
        return NULL;
    if (set_pattern(self, before, (size_t)before_size, after, (size_t)after_size))
        return NULL;
    self->last_ns = last_ns;
    self->place = self->fd >= 0 ? TOKENS : ELSEWHERE;
    Py_RETURN_NONE;
}

static PyObject *stream_take_gaps(PyObject *object, PyObject *unused)
{
    (void)unused;
    return take(&((Stream *)object)->gaps);
}

/* The length of the HTTP chunk at p, if it is the stream's pattern around a text that is not empty; else 0. */
static size_t token_chunk(const Stream *self, const char *p, const char *end)
{
    const char *body;
    size_t size, length = whole_chunk(p, end, &body, &size);
    if (!length || size <= self->before + self->after)
        return 0;
    const char *text = body + self->before, *tail = body + size - self->after;
    if (memcmp(body, self->pattern, self->before) || memcmp(tail, self->pattern + self->before, self->after))
        return 0;
    return one_text(text, tail) ? length : 0;
}

/* One token. Those of one read came together: between them no time passed that could be seen. */
static int note(Stream *self, int64_t at_ns)
{
    int64_t gap = at_ns - self->last_ns;
    self->last_ns = at_ns;
    return append(&self->gaps, gap) || append(&self->hub->gaps, gap) ? -1 : 0;
}

/* Calls function, with an argument if that is not NULL. -1: it raised. */
static int call(PyObject *function, PyObject *argument)
{
    Py_INCREF(function); /* what is called may let go of the last other reference to it */
    PyObject *said = PyObject_CallFunctionObjArgs(function, argument, NULL);
    Py_DECREF(function);
    Py_XDECREF(said);
    return said ? 0 : -1;
}

/* The same with a new reference, which is taken; -1 also when it could not be made. */
static int hand(PyObject *function, PyObject *made)
{
    int failed = made ? call(function, made) : -1;
    Py_XDECREF(made);
    return failed;
}

/* Sends the launched requests whose time has come. -1: on_rest raised; the others wait on. */
static int fire(Hub *self)
{
    Stream *stream;
    int failed = 0;
    int64_t now;
    while (!failed && (stream = self->launched) && (now = now_ns()) >= stream->intended_ns) {
        PyObject *request = stream->request;
        self->launched = stream->next;
        stream->next = NULL;
        stream->request = NULL;
        if (request) { /* else it was recalled */
            char *data;
            Py_ssize_t size;
            PyBytes_AsStringAndSize(request, &data, &size);
            stream->sent_ns = now;
            ssize_t n = begin_request(stream, data, (size_t)size, 1);
            if (n < size)
                failed = hand(stream->on_rest, PyBytes_FromStringAndSize(data + n, size - n));
            Py_DECREF(request);
        }
        Py_DECREF((PyObject *)stream);
    }
    return failed;
}

/* Tells of the answers that have ended, in that order. -1: a callback raised; the others wait on. */
static int land(Hub *hub)
{
    int failed = 0;
    while (!failed && hub->landed) {
        Stream *stream = hub->landed;
        PyObject *ending = stream->ending;
        hub->landed = stream->next;
        hub->waiting--;
        stream->next = NULL;
        stream->ending = NULL;
        if (stream->fd >= 0)
            failed = call(stream->on_end, ending) || fire(hub) ? -1 : 0;
        Py_DECREF(ending);
        Py_DECREF((PyObject *)stream);
    }
    return failed;
}

/* An answer has ended: on_end gets what stands at p, soon. One call for each as it comes would find the
 * caches filled with sockets, and cost a multiple. */
static int wait_to_land(Stream *self, const char *p, size_t size)
{
    Hub *hub = self->hub;
    self->ending = PyBytes_FromStringAndSize(p, (Py_ssize_t)size);
    if (!self->ending)
        return -1;
    Py_INCREF((PyObject *)self);
    *(hub->landed ? &hub->last_landed->next : &hub->landed) = self;
    hub->last_landed = self;
    hub->waiting++;
    return 0;
}

/* When what a recv brought had come: its last byte, by the kernel's stamp, if there is one; else all that was
 * there when the turn began. A stamp before the turn before this one, which would have brought it, is one of a
 * clock that was set meanwhile. */
static int64_t arrival_ns(Stream *self, int64_t stamp_ns)
{
    Hub *hub = self->hub;
    int64_t at = hub->turn_ns;
    if (stamp_ns) {
        int64_t now = now_ns();
        at = stamp_ns - hub->ahead_ns;
        at = at < hub->before_ns ? hub->before_ns : at > now ? now : at;
        /* Of a read that brought several tokens the stamp is the last one's: one read does not tell. */
        if (hub->turn_ns - at > EXACT_NS)
            hub->unsure = -1;
        else if (hub->unsure > 0)
            hub->unsure--;
    }
    if (at < self->read_ns)
        at = self->read_ns;
    return at > self->sent_ns ? at : now_ns();
}

/* Dates what lies at p, within the read that begins at begin.
 *
 * The first bytes of a read were there when the turn began. What follows them may have come since, while
 * other streams were read: in an old turn it is dated by now. */
static void date(Stream *self, const char *p, const char *begin)
{
    int64_t now = p == begin || self->exact ? 0 : now_ns();
    if (now > self->hub->turn_ns + STALE_NS)
        self->read_ns = now;
}

/* Whether the bytes are UTF-8. */
static int is_utf8(Span text)
{
    PyObject *decoded = PyUnicode_DecodeUTF8(text.begin, text.end - text.begin, NULL);
    if (!decoded)
        PyErr_Clear();
    Py_XDECREF(decoded);
    return decoded != NULL;
}

/* The chunk at p as one of those before the tokens, or with the first of them. Its length; 0 if it is neither,
 * -1 when it raised. */
static ssize_t take_opening(Stream *self, const char *p, const char *end)
{
    Hub *hub = self->hub;
    const char *body;
    size_t size, length = whole_chunk(p, end, &body, &size);
    Span text = {NULL, NULL};
    if (!length)
        return 0;
    if (!self->opened && hub->opening.size && match(&hub->opening, body, body + size, &text) == body + size) {
        self->opened = 1;
        return (ssize_t)length;
    }
    if (match(&hub->first, body, body + size, &text) != body + size || !text.begin || !is_utf8(text))
        return 0;
    if (set_pattern(self, body, (size_t)(text.begin - body), text.end, (size_t)(body + size - text.end))
        || append(&hub->ttfts, self->read_ns - self->intended_ns))
        return -1;
    self->first_ns = self->last_ns = self->read_ns;
    self->opened = 1;
    self->place = TOKENS;
    return (ssize_t)length;
}

/* Takes what it can at p. Returns where begins what is for Python; NULL when it raised. */
static char *take_known(Stream *self, char *const begin, const char *end)
{
    char *p = begin;
    if (self->place == HEAD) {
        Span unused;
        const Template *head = &self->hub->head; /* empty when it was forgotten meanwhile */
        const char *body = head->size ? match(head, p, end, &unused) : NULL;
        if (body) {
            p += body - p;
            self->head_ns = self->read_ns;
        }
        self->place = body ? OPENING : ELSEWHERE;
    }
    while (self->place == OPENING && p < end) {
        date(self, p, begin);
        ssize_t length = take_opening(self, p, end);
        if (length < 0)
            return NULL;
        if (length == 0)
            return p;
        p += length;
    }
    size_t size;
    while (self->place == TOKENS && p < end && (size = token_chunk(self, p, end))) {
        date(self, p, begin);
        if (note(self, self->read_ns))
            return NULL;
        p += size;
    }
    return p;
}

/* What one recv brought. */
static int take_read(Stream *self, char *begin, const char *end, int64_t stamp_ns)
{
    self->exact = stamp_ns != 0;
    self->read_ns = arrival_ns(self, stamp_ns);
    char *p = begin;
    if (self->place != ELSEWHERE && !(p = take_known(self, begin, end)))
        return -1;
    if (p == end)
        return 0;
    size_t size;
    int ends = self->head_ns && !self->handed && self->place == TOKENS && take_ending(p, end, &size);
    self->place = ELSEWHERE; /* until Python says that it stands at the boundary of a chunk again */
    set_aloft(self, 0);
    if (ends)
        return wait_to_land(self, p, size);
    self->handed = 1;
    return hand(self->on_read, PyBytes_FromStringAndSize(p, end - p));
}

/* recv into the hub's buffer. *stamp_ns: when the last byte came by CLOCK_REALTIME; 0 where the kernel did not
 * say. It is asked, which costs a tenth more, for all but tokens, for a TTFT may hang on it, and for
 * tokens in a turn that may be late. */
static ssize_t receive(Stream *self, int64_t *stamp_ns)
{
    Hub *hub = self->hub;
    *stamp_ns = 0;
    if (self->place == TOKENS && hub->unsure == 0)
        return recv(self->fd, hub->buffer, READ_SIZE, MSG_DONTWAIT);
    union {
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
        struct cmsghdr alignment;
    } control;
    struct iovec into = {hub->buffer, READ_SIZE};
    struct msghdr message = {
        .msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(self->fd, &message, MSG_DONTWAIT);
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SO_TIMESTAMPNS) {
        struct timespec stamp;
        memcpy(&stamp, CMSG_DATA(header), sizeof stamp);
        *stamp_ns = in_ns(stamp);
    }
    return n;
}

/* Reads until nothing is left, for epoll tells of each arrival once. Less than was asked for is all there is
 * (epoll(7)), but for an end or an error behind it, of which events tells. */
static int read_stream(Stream *self, uint32_t events)
{
    int ended = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    int64_t stamp_ns;
    ssize_t n;
    do {
        if (self->ending && land(self->hub)) /* what comes behind an end is told behind it */
            return -1;
        if (self->fd < 0)
            return 0;
        do
            n = receive(self, &stamp_ns);
        while (n < 0 && errno == EINTR);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n <= 0)
            return hand(self->on_lost, PyLong_FromLong(n ? errno : 0));
        char *buffer = self->hub->buffer;
        if (take_read(self, buffer, buffer + n, stamp_ns))
            return -1;
    } while (self->fd >= 0 && (ended || n == READ_SIZE));
    return 0;
}

static void stream_dealloc(PyObject *object)
{
    Stream *self = (Stream *)object;
    PyTypeObject *type = Py_TYPE(object);
    free(self->pattern);
    free(self->gaps.items);
    Py_XDECREF((PyObject *)self->hub);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(object);
    Py_DECREF(type);
}

static PyMethodDef stream_methods[] = {
    {"send", stream_send, METH_VARARGS, NULL},
    {"launch", stream_launch, METH_VARARGS, NULL},
    {"arm", stream_arm, METH_VARARGS, NULL},
    {"take_gaps", stream_take_gaps, METH_NOARGS, NULL},
    {"release", stream_release, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef stream_members[] = {
    {"opened", T_INT, offsetof(Stream, opened), READONLY, NULL},
    {"sent_ns", T_LONGLONG, offsetof(Stream, sent_ns), READONLY, NULL},
    {"head_ns", T_LONGLONG, offsetof(Stream, head_ns), READONLY, NULL},
    {"first_ns", T_LONGLONG, offsetof(Stream, first_ns), READONLY, NULL},
    {"read_ns", T_LONGLONG, offsetof(Stream, read_ns), READONLY, NULL},
    {"last_ns", T_LONGLONG, offsetof(Stream, last_ns), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_methods, stream_methods},
    {Py_tp_members, stream_members},
    {0, NULL},
};

static PyType_Spec stream_spec = {
    "rvtop.load._reads.Stream",
    sizeof(Stream),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    stream_slots,
};

/* -- Hub ----------------------------------------------------------------------------------------------- */

static PyObject *hub_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_Size(args) || (kwargs && PyDict_Size(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "Hub takes no arguments");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Hub *self = (Hub *)allocate(type, 0);
    if (!self)
        return NULL;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    self->due_ns = self->timer_ns = INT64_MAX;
    self->events = calloc(MOST_EVENTS, sizeof *self->events);
    self->buffer = malloc(READ_SIZE);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}; /* without a stream: the timer */
    if (self->epoll < 0 || self->timer < 0 || epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->timer, &event))
        PyErr_SetFromErrno(PyExc_OSError);
    else if (!self->events || !self->buffer)
        PyErr_NoMemory();
    else
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static void hub_dealloc(PyObject *object)
{
    Hub *self = (Hub *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->timer >= 0)
        close(self->timer);
    if (self->epoll >= 0)
        close(self->epoll);
    free(self->events);
    free(self->buffer);
    free(self->head.bytes);
    free(self->opening.bytes);
    free(self->first.bytes);
    free(self->ttfts.items);
    free(self->gaps.items);
    Py_XDECREF(self->on_due);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(object);
    Py_DECREF(type);
}

static int watch(int epoll, int how, int fd, Stream *stream)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = stream};
    return epoll_ctl(epoll, how, fd, &event);
}

static PyObject *hub_add(PyObject *object, PyObject *args)
{
    Hub *self = (Hub *)object;
    int fd;
    PyObject *on_read, *on_end, *on_lost, *on_rest;
    if (!PyArg_ParseTuple(args, "iOOOO:add", &fd, &on_read, &on_end, &on_lost, &on_rest))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(stream_type, Py_tp_alloc);
    Stream *stream = (Stream *)allocate(stream_type, 0);
    if (!stream)
        return NULL;
    Py_INCREF(object);
    stream->hub = self;
    stream->fd = -1;
    if (watch(self->epoll, EPOLL_CTL_ADD, fd, stream)) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(stream);
        return NULL;
    }
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on); /* without, turns date */
    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on); /* or a recv would stop before such a byte */
    stream->fd = fd;
    Py_INCREF(on_read);
    stream->on_read = on_read;
    Py_INCREF(on_end);
    stream->on_end = on_end;
    Py_INCREF(on_lost);
    stream->on_lost = on_lost;
    Py_INCREF(on_rest);
    stream->on_rest = on_rest;
    Py_INCREF((PyObject *)stream); /* the registration's own, until release */
    return (PyObject *)stream;
}

static int learn(Template *template, const char *bytes, Py_ssize_t size)
{
    template->size = 0;
    if (reserve(&template->bytes, &template->room, (size_t)size))
        return -1;
    if (size)
        memcpy(template->bytes, bytes, (size_t)size);
    template->size = (size_t)size;
    return 0;
}

static PyObject *hub_learn(PyObject *object, PyObject *args)
{
    Hub *self = (Hub *)object;
    const char *head, *opening, *first;
    Py_ssize_t head_size, opening_size, first_size;
    if (!PyArg_ParseTuple(
            args, "y#y#y#:learn", &head, &head_size, &opening, &opening_size, &first, &first_size))
        return NULL;
    if (learn(&self->head, head, head_size) || learn(&self->opening, opening, opening_size)
        || learn(&self->first, first, first_size))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *hub_due(PyObject *object, PyObject *argument)
{
    Hub *self = (Hub *)object;
    int64_t at_ns = PyLong_AsLongLong(argument);
    if (at_ns == -1 && PyErr_Occurred())
        return NULL;
    self->due_ns = at_ns;
    set_timer(self);
    Py_RETURN_NONE;
}

static PyObject *hub_fire(PyObject *object, PyObject *unused)
{
    (void)unused;
    int failed = fire((Hub *)object);
    set_timer((Hub *)object);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

/* Does what is due: sends requests, and calls on_due if its time has come; who is called sets the next time. */
static int heed_due(Hub *self)
{
    int64_t now = now_ns();
    if (now < self->timer_ns)
        return 0;
    self->timer_ns = 0; /* it has gone off, or may have */
    int failed = fire(self);
    if (!failed && self->on_due && now >= self->due_ns) {
        self->due_ns = INT64_MAX; /* or one that raises would be called for ever, and nothing be read */
        failed = call(self->on_due, NULL) || fire(self) ? -1 : 0;
    }
    set_timer(self);
    return failed;
}

static PyObject *hub_poll(PyObject *object, PyObject *unused)
{
    (void)unused;
    Hub *self = (Hub *)object;
    if (self->polling) {
        PyErr_SetString(PyExc_RuntimeError, "poll was called by what it called");
        return NULL;
    }
    self->polling = 1;
    int64_t asked_ns = now_ns();
    int count = epoll_wait(self->epoll, self->events, MOST_EVENTS, 0);
    self->before_ns = self->asked_ns;
    self->asked_ns = asked_ns;
    self->turn_ns = now_ns();
    self->ahead_ns = ahead_ns();
    self->unsure = SAMPLE;
    /* Whoever is called from here may end any stream of this turn. */
    for (int i = 0; i < count; i++)
        Py_XINCREF((PyObject *)self->events[i].data.ptr);
    int failed = 0;
    for (int i = 0; i < count; i++) {
        Stream *stream = self->events[i].data.ptr;
        if (!failed && i % DUE_EVERY == 0)
            failed = heed_due(self);
        if (!stream) /* the timer */
            continue;
        if (!failed && stream->fd >= 0)
            failed = read_stream(stream, self->events[i].events);
        if (failed && stream->fd >= 0) /* told again of what is left: the next poll reads on */
            watch(self->epoll, EPOLL_CTL_MOD, stream->fd, stream);
        Py_DECREF((PyObject *)stream);
    }
    if (!failed && (self->waiting > self->most_waiting || !self->aloft))
        failed = land(self);
    self->polling = 0;
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *hub_land(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (land((Hub *)object))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *hub_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    Hub *self = (Hub *)object;
    Py_CLEAR(self->on_due);
    if (land(self)) /* whoever is told holds the hub, and would for ever */
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *hub_fileno(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(((Hub *)object)->epoll);
}

static PyObject *hub_take_gaps(PyObject *object, PyObject *unused)
{
    (void)unused;
    return take(&((Hub *)object)->gaps);
}

static PyObject *hub_take_ttfts(PyObject *object, PyObject *unused)
{
    (void)unused;
    return take(&((Hub *)object)->ttfts);
}

static PyMethodDef hub_methods[] = {
    {"add", hub_add, METH_VARARGS, NULL},
    {"learn", hub_learn, METH_VARARGS, NULL},
    {"due", hub_due, METH_O, NULL},
    {"poll", hub_poll, METH_NOARGS, NULL},
    {"fileno", hub_fileno, METH_NOARGS, NULL},
    {"fire", hub_fire, METH_NOARGS, NULL},
    {"land", hub_land, METH_NOARGS, NULL},
    {"take_ttfts", hub_take_ttfts, METH_NOARGS, NULL},
    {"take_gaps", hub_take_gaps, METH_NOARGS, NULL},
    {"close", hub_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef hub_members[] = {
    {"on_due", T_OBJECT, offsetof(Hub, on_due), 0, NULL},
    {"most_waiting", T_INT, offsetof(Hub, most_waiting), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot hub_slots[] = {
    {Py_tp_new, hub_new},
    {Py_tp_dealloc, hub_dealloc},
    {Py_tp_methods, hub_methods},
    {Py_tp_members, hub_members},
    {0, NULL},
};

static PyType_Spec hub_spec = {"rvtop.load._reads.Hub", sizeof(Hub), 0, Py_TPFLAGS_DEFAULT, hub_slots};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_reads", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__reads(void)
{
    PyObject *made = PyModule_Create(&module);
    PyObject *hub = made ? PyType_FromSpec(&hub_spec) : NULL;
    stream_type = hub ? (PyTypeObject *)PyType_FromSpec(&stream_spec) : NULL;
    if (stream_type && !PyModule_AddObjectRef(made, "Hub", hub)
        && !PyModule_AddObjectRef(made, "Stream", (PyObject *)stream_type)
        && !PyModule_AddStringConstant(made, "SOURCE", SOURCE)) {
        Py_DECREF(hub);
        return made;
    }
    Py_XDECREF(hub);
    Py_XDECREF(made);
    return NULL;
}
