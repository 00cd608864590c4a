/* Requests: sent at once, or by themselves at their time; the connections that are idle; what is due. */
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include "_native_core.h"

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The timer goes off when something is due. */
static void set_timer(Hub *self)
{
    int64_t at_ns = earlier(self->due_ns, self->tick_ns);
    if (self->launches)
        at_ns = earlier(at_ns, self->launches->intended_ns);
    if (at_ns < 1)
        at_ns = 1; /* zero would disarm it */
    if (at_ns == self->timer_ns)
        return;
    self->timer_ns = at_ns;
    struct itimerspec spec = {.it_value = {at_ns / 1000000000, at_ns % 1000000000}};
    timerfd_settime(self->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

/* -- idle connections ----------------------------------------------------------------------------------- */

static void set_idle(Stream *self)
{
    Hub *hub = self->hub;
    if (self->idle || self->fd < 0)
        return;
    self->idle = 1;
    self->idle_since = now_ns();
    self->newer = NULL;
    self->older = hub->newest;
    *(hub->newest ? &hub->newest->newer : &hub->oldest) = self;
    hub->newest = self;
    hub->idle++;
}

static void set_busy(Stream *self)
{
    Hub *hub = self->hub;
    if (!self->idle)
        return;
    self->idle = 0;
    *(self->newer ? &self->newer->older : &hub->newest) = self->older;
    *(self->older ? &self->older->newer : &hub->oldest) = self->newer;
    hub->idle--;
}

/* The one that was used last, if it may be used again. */
static Stream *take_idle(Hub *self, int64_t at_ns)
{
    Stream *stream = self->newest;
    if (!stream || at_ns - stream->idle_since > self->idle_limit_ns)
        return NULL;
    set_busy(stream);
    return stream;
}

/* -- one request ---------------------------------------------------------------------------------------- */

static void set_aloft(Stream *self, int aloft)
{
    self->hub->aloft += aloft - self->aloft;
    self->aloft = aloft;
}

/* One that is sent now; its references are somebody else's. */
typedef struct {
    PyObject *record, *bytes;
    long long intended_ns, sent_ns;
    int known; /* whether what the hub has learned of answers may be taken for this one's */
} Request;

/* That of a call of send. -1: it raised. */
static int parse_request(PyObject *args, Request *into)
{
    return PyArg_ParseTuple(
               args, "OSLLp:send", &into->record, &into->bytes, &into->intended_ns, &into->sent_ns, &into->known)
               ? 0
               : -1;
}

/* Begins a request. What the socket does not take, be it for an error, on_rest gets. -1: that raised. */
static int begin(Stream *self, const Request *request)
{
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(request->bytes, &data, &size))
        return -1;
    Py_INCREF(request->record);
    Py_XDECREF(self->record);
    self->record = request->record;
    self->intended_ns = request->intended_ns;
    self->sent_ns = request->sent_ns;
    self->head_ns = self->first_ns = self->read_ns = self->last_ns = 0;
    self->opened = self->handed = 0;
    self->gaps.size = 0;
    ssize_t n = send(self->fd, data, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT);
    n = n < 0 ? 0 : n;
    /* A connection with something left to write is not idle when the answer ends: Python sees to it. */
    self->place = request->known && n == size && self->hub->head.size ? HEAD : ELSEWHERE;
    set_aloft(self, self->place == HEAD);
    return n < size ? hand(self->hub, self->on_rest, PyBytes_FromStringAndSize(data + n, size - n)) : 0;
}

/* No request is in flight any more. */
static void finish(Stream *self)
{
    set_aloft(self, 0);
    self->place = ELSEWHERE;
    Py_CLEAR(self->record);
}

/* -- requests that wait for their time ------------------------------------------------------------------ */

static void drop_launch(Launch *launch)
{
    Py_DECREF(launch->record);
    Py_DECREF(launch->request);
    free(launch);
}

static int add_launch(Hub *self, PyObject *record, PyObject *request, int64_t intended_ns)
{
    Launch *launch = malloc(sizeof *launch), *last = self->last_launch;
    if (!launch) {
        PyErr_NoMemory();
        return -1;
    }
    Py_INCREF(record);
    Py_INCREF(request);
    /* Nearly all come in their order. */
    Launch **at = last && last->intended_ns <= intended_ns ? &last->next : &self->launches;
    while (*at && (*at)->intended_ns <= intended_ns)
        at = &(*at)->next;
    *launch = (Launch){*at, record, request, intended_ns};
    *at = launch;
    if (!launch->next)
        self->last_launch = launch;
    self->launched++;
    return 0;
}

/* Drops those for from_ns or later; the time of the first of them, -1 if there is none. */
static int64_t drop_launches(Hub *self, int64_t from_ns)
{
    Launch **at = &self->launches, *last = NULL;
    while (*at && (*at)->intended_ns < from_ns) {
        last = *at;
        at = &last->next;
    }
    self->last_launch = last;
    int64_t first_ns = *at ? (*at)->intended_ns : -1;
    while (*at) {
        Launch *launch = *at;
        *at = launch->next;
        self->launched--;
        drop_launch(launch);
    }
    return first_ns;
}

/* Hears who has a word for us, if it is long since the last look: it may be that nothing is to be sent. 1: there
 * was one; -1: who was called for it raised. */
static int hear(Hub *self, int64_t at_ns)
{
    if (self->word < 0 || at_ns - self->heard_ns < HEARD_NS)
        return 0;
    struct pollfd who = {.fd = self->word, .events = POLLIN};
    self->heard_ns = at_ns;
    if (poll(&who, 1, 0) <= 0)
        return 0;
    return call(self, self->on_word, NULL) ? -1 : 1;
}

static int send_launch(Hub *self, Launch *launch, int64_t at_ns)
{
    Stream *stream = take_idle(self, at_ns);
    if (!stream) {
        PyObject *both = PyTuple_Pack(2, launch->record, launch->request);
        return hand(self, self->on_astray, both);
    }
    Request request = {launch->record, launch->request, launch->intended_ns, at_ns, 1};
    Py_INCREF((PyObject *)stream); /* on_rest may release it */
    int failed = keep(self->sent, Py_BuildValue("(OOL)", launch->record, stream->owner, (long long)at_ns))
                 || begin(stream, &request);
    Py_DECREF((PyObject *)stream);
    return failed ? -1 : 0;
}

/* Sends the launched requests whose time has come. -1: a callback raised; the others wait on. */
static int fire(Hub *self)
{
    int failed = 0;
    int64_t now;
    while (!failed && self->launches && (now = now_ns()) >= self->launches->intended_ns) {
        Launch *launch = self->launches;
        /* Not between requests of one time: a word would take back the others with those that were sent. */
        int heard = launch->intended_ns == self->fired_ns ? 0 : hear(self, now);
        if (heard) {
            failed = heard < 0;
            continue;
        }
        self->launches = launch->next;
        if (!launch->next)
            self->last_launch = NULL;
        self->launched--;
        self->fired_ns = launch->intended_ns;
        failed = send_launch(self, launch, now);
        drop_launch(launch);
    }
    return failed;
}

/* Does what is due: calls on_due if its time has come, who sets the next one, and sends requests. */
static int heed_due(Hub *self)
{
    int64_t now = now_ns();
    if (now < self->due_ns && !(self->launches && now >= self->launches->intended_ns))
        return 0;
    if (now >= self->timer_ns)
        self->timer_ns = 0; /* it has gone off, or may have */
    int failed = hear(self, now) < 0;
    if (!failed && self->on_due && now >= self->due_ns) {
        self->due_ns = INT64_MAX; /* or one that raises would be called for ever, and nothing be read */
        failed = call(self, self->on_due, NULL);
    }
    if (!failed)
        failed = fire(self);
    set_timer(self);
    return failed;
}
