/* The wire of a load worker: sockets, one epoll instance, and the chunks that differ in their text alone.
 *
 * A streamed completion is hundreds of small reads that all look alike. Here each costs a recv and two
 * comparisons; the interpreter sees only what is out of the ordinary (ends, faults, what it has not learned),
 * from the boundary of an HTTP chunk on. What is plain is settled in Python: `Completion` in stream.py teaches
 * a Stream its pattern, known.py teaches the Hub how answers begin; connection.py is the only user. Requests
 * that were made ready before go out from here at their time. Without this module all goes through asyncio.
 *
 * Here are the two types as Python has them and the turn that reads; _reads_request.h sends and tells of ends,
 * _reads_answer.h reads, _reads_text.h knows what bytes say, _reads_core.h is what all of them stand on.
 *
 * Built against the stable ABI of Python 3.11, Linux only; see .ci/build_reads.py.
 */
#include "_reads_answer.h"

#include <structmember.h>
#include <unistd.h>

enum {
    MOST_EVENTS = 4096, /* of one turn */
    DUE_EVERY = 8,      /* streams of a turn between two looks at the clock for what is due */
};

static PyTypeObject *stream_type;

/* -- Stream -------------------------------------------------------------------------------------------- */

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
        || (hub->launched.first && intended_ns < hub->launched.last->intended_ns)) {
        PyErr_SetString(PyExc_ValueError, "the stream is not idle, or the time is before that of the last launch");
        return NULL;
    }
    Py_INCREF(request);
    self->request = request;
    self->intended_ns = intended_ns;
    self->sent_ns = 0;
    push(&hub->launched, self);
    set_timer(hub);
    Py_RETURN_NONE;
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

/* Does what is due: calls on_due if its time has come, who sets the next one, and sends requests. In this order,
 * for who is called may hear of a command that takes some of them back. */
static int heed_due(Hub *self)
{
    int64_t now = now_ns();
    if (now < self->timer_ns)
        return 0;
    self->timer_ns = 0; /* it has gone off, or may have */
    int failed = 0;
    if (self->on_due && now >= self->due_ns) {
        self->due_ns = INT64_MAX; /* or one that raises would be called for ever, and nothing be read */
        failed = call(self->on_due, NULL);
    }
    if (!failed)
        failed = fire(self);
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
    if (land(self)) /* streams that wait hold the hub, and would for ever */
        return NULL;
    while (self->launched.first)
        Py_DECREF((PyObject *)pop(&self->launched));
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
