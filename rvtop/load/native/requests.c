/* Requests: sent at once, or by themselves at their time; the connections that are idle; what is due. */
#include "native.h"

#include <poll.h>

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The timer goes off when something is due. */
void set_timer(Poller *self)
{
    int64_t at_ns = earlier(self->due_ns, self->tick_ns);
    if (self->queue)
        at_ns = earlier(at_ns, self->queue->intended_ns);
    if (at_ns < 1)
        at_ns = 1; /* zero would disarm it */
    if (at_ns == self->timer_ns)
        return;
    self->timer_ns = at_ns;
    struct itimerspec spec = {.it_value = {at_ns / 1000000000, at_ns % 1000000000}};
    timerfd_settime(self->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

/* -- idle connections ----------------------------------------------------------------------------------- */

void set_idle(Conn *self)
{
    Poller *poller = self->poller;
    if (self->idle || self->fd < 0)
        return;
    self->idle = 1;
    self->idle_since = now_ns();
    poller->idle++;
    if (self->retired) { /* among the oldest, so that poller_stale finds it and take_idle does not */
        self->older = NULL;
        self->newer = poller->oldest;
        *(poller->oldest ? &poller->oldest->older : &poller->newest) = self;
        poller->oldest = self;
        return;
    }
    self->newer = NULL;
    self->older = poller->newest;
    *(poller->newest ? &poller->newest->newer : &poller->oldest) = self;
    poller->newest = self;
}

void set_busy(Conn *self)
{
    Poller *poller = self->poller;
    if (!self->idle)
        return;
    self->idle = 0;
    *(self->newer ? &self->newer->older : &poller->newest) = self->older;
    *(self->older ? &self->older->newer : &poller->oldest) = self->newer;
    poller->idle--;
}

/* The one that was used last, if it may be used again. */
Conn *take_idle(Poller *self, int64_t at_ns)
{
    Conn *conn = self->newest;
    if (!conn || conn->retired || at_ns - conn->idle_since > self->idle_limit_ns)
        return NULL;
    set_busy(conn);
    return conn;
}

/* No further request is sent on it. */
void retire(Conn *self)
{
    self->retired = 1;
    if (self->idle) {
        set_busy(self);
        set_idle(self);
    }
}

/* -- one request ---------------------------------------------------------------------------------------- */

void set_in_native(Conn *self, int in_native)
{
    self->poller->in_native += in_native - self->in_native;
    self->in_native = in_native;
}

/* That of a call of send. -1: it raised. */
int parse_request(PyObject *args, Request *into)
{
    return PyArg_ParseTuple(
               args, "OSLLp:send", &into->record, &into->bytes, &into->intended_ns, &into->sent_ns, &into->known)
               ? 0
               : -1;
}

/* Writes at once; *rest is what the socket did not take, be it for an error, as a new reference; NULL: all was
 * taken. -1: it raised. */
int write_now(Conn *self, PyObject *bytes, PyObject **rest)
{
    char *data;
    Py_ssize_t size;
    *rest = NULL;
    if (PyBytes_AsStringAndSize(bytes, &data, &size))
        return -1;
    ssize_t n = send(self->fd, data, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT);
    n = n < 0 ? 0 : n;
    if (n < size)
        *rest = PyBytes_FromStringAndSize(data + n, size - n);
    return n < size && !*rest ? -1 : 0;
}

/* Begins a request. What the socket does not take, be it for an error, on_rest gets. -1: it raised. */
int begin(Conn *self, const Request *request)
{
    PyObject *rest = NULL, *bytes = encrypted(self, request->bytes);
    if (!bytes)
        return -1;
    Py_INCREF(request->record);
    Py_XDECREF(self->record);
    self->record = request->record;
    self->intended_ns = request->intended_ns;
    self->sent_ns = request->sent_ns;
    self->head_ns = self->first_ns = self->read_ns = self->last_ns = 0;
    self->opened = self->handed = 0;
    self->gaps.size = 0;
    int failed = write_now(self, bytes, &rest);
    Py_DECREF(bytes);
    /* A connection with something left to write is not idle when the answer ends: Python sees to it. */
    self->place = request->known && !failed && !rest && self->poller->head.size ? HEAD : ELSEWHERE;
    set_in_native(self, self->place == HEAD);
    return rest ? hand(self->poller, self->on_rest, rest) : failed;
}

/* No request is in flight any more. */
void finish(Conn *self)
{
    set_in_native(self, 0);
    self->place = ELSEWHERE;
    Py_CLEAR(self->record);
}

/* -- requests that wait for their time ------------------------------------------------------------------ */

static void drop_scheduled(Scheduled *due)
{
    Py_DECREF(due->record);
    Py_DECREF(due->request);
    free(due);
}

int add_scheduled(Poller *self, PyObject *record, PyObject *request, int64_t intended_ns)
{
    Scheduled *due = malloc(sizeof *due), *last = self->queue_tail;
    if (!due) {
        PyErr_NoMemory();
        return -1;
    }
    Py_INCREF(record);
    Py_INCREF(request);
    /* Nearly all come in their order. */
    Scheduled **at = last && last->intended_ns <= intended_ns ? &last->next : &self->queue;
    while (*at && (*at)->intended_ns <= intended_ns)
        at = &(*at)->next;
    *due = (Scheduled){*at, record, request, intended_ns};
    *at = due;
    if (!due->next)
        self->queue_tail = due;
    self->scheduled++;
    return 0;
}

/* Drops those for from_ns or later; the time of the first of them, -1 if there is none. */
int64_t drop_scheduled_from(Poller *self, int64_t from_ns)
{
    Scheduled **at = &self->queue, *last = NULL;
    while (*at && (*at)->intended_ns < from_ns) {
        last = *at;
        at = &last->next;
    }
    self->queue_tail = last;
    int64_t first_ns = *at ? (*at)->intended_ns : -1;
    while (*at) {
        Scheduled *due = *at;
        *at = due->next;
        self->scheduled--;
        drop_scheduled(due);
    }
    return first_ns;
}

/* Looks at the command pipe, if the last look is POLL_COMMANDS_NS old: a command may say that nothing is to be
 * sent. 1: on_command was called; -1: it raised. */
static int poll_commands(Poller *self, int64_t at_ns)
{
    if (self->command_fd < 0 || at_ns - self->last_polled_ns < POLL_COMMANDS_NS)
        return 0;
    struct pollfd who = {.fd = self->command_fd, .events = POLLIN};
    self->last_polled_ns = at_ns;
    if (poll(&who, 1, 0) <= 0)
        return 0;
    return call(self, self->on_command, NULL) ? -1 : 1;
}

static int send_scheduled(Poller *self, Scheduled *due, int64_t at_ns)
{
    Conn *conn = take_idle(self, at_ns);
    if (!conn) {
        PyObject *both = PyTuple_Pack(2, due->record, due->request);
        return hand(self, self->on_no_connection, both);
    }
    Request request = {due->record, due->request, due->intended_ns, at_ns, 1};
    Py_INCREF((PyObject *)conn); /* on_rest may release it */
    int failed = keep(self->sent, Py_BuildValue("(OOL)", due->record, conn->owner, (long long)at_ns))
                 || begin(conn, &request);
    Py_DECREF((PyObject *)conn);
    return failed ? -1 : 0;
}

/* Sends the scheduled requests whose time has come. -1: a callback raised; the others keep waiting. */
int send_due(Poller *self)
{
    int failed = 0;
    int64_t now;
    while (!failed && self->queue && (now = now_ns()) >= self->queue->intended_ns) {
        Scheduled *due = self->queue;
        /* Not between requests of one time: a command would take back the others with those that were sent. */
        int polled = due->intended_ns == self->last_due_ns ? 0 : poll_commands(self, now);
        if (polled) {
            failed = polled < 0;
            continue;
        }
        self->queue = due->next;
        if (!due->next)
            self->queue_tail = NULL;
        self->scheduled--;
        self->last_due_ns = due->intended_ns;
        failed = send_scheduled(self, due, now);
        drop_scheduled(due);
    }
    return failed;
}

/* Does what is due: calls on_due if its time has come, who sets the next one, and sends requests. */
int run_due(Poller *self)
{
    int64_t now = now_ns();
    if (now < self->due_ns && !(self->queue && now >= self->queue->intended_ns))
        return 0;
    if (now >= self->timer_ns)
        self->timer_ns = 0; /* it has gone off, or may have */
    int failed = poll_commands(self, now) < 0;
    if (!failed && self->on_due && now >= self->due_ns) {
        self->due_ns = INT64_MAX; /* or one that raises would be called for ever, and nothing be read */
        failed = call(self, self->on_due, NULL);
    }
    if (!failed)
        failed = send_due(self);
    set_timer(self);
    return failed;
}
