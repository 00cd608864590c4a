/* The wire of a load worker: sockets, one epoll instance, and the chunks that differ in their text alone.
 *
 * A streamed completion is hundreds of small reads that all look alike. Here each costs a recv and two
 * comparisons; the interpreter sees only what is out of the ordinary (ends, faults, what it has not learned),
 * from the boundary of an HTTP chunk on. What is plain is settled in Python: `Completion` in stream.py teaches
 * a Stream its pattern, known.py teaches the Hub how answers begin; connection.py is the only user. Requests
 * that were made ready before go out from here at their time. Without this module all goes through asyncio.
 *
 * Here is the Hub as Python has it, and in _native_stream.h the Stream; _native_turn.h does a turn of it all,
 * _native_request.h sends, _native_answer.h reads, _native_text.h knows what bytes say, _native_core.h is what all of
 * them stand on. _native_hist.h counts what goes into a histogram.
 *
 * Built against the stable ABI of Python 3.11, Linux only; see .ci/build_native.py.
 */
#include "_native_hist.h"
#include "_native_stream.h"
#include "_native_turn.h"

#include <unistd.h>

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
    self->due_ns = self->tick_ns = self->timer_ns = INT64_MAX;
    self->idle_limit_ns = INT64_MAX;
    self->word = -1;
    self->sent = PyList_New(0);
    self->landed = PyList_New(0);
    self->events = calloc(MOST_EVENTS, sizeof *self->events);
    self->buffer = malloc(READ_SIZE);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}; /* without a stream: the timer */
    if (self->epoll < 0 || self->timer < 0 || epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->timer, &event))
        PyErr_SetFromErrno(PyExc_OSError);
    else if (!self->events || !self->buffer)
        PyErr_NoMemory();
    else if (self->sent && self->landed)
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static void forget_word(Hub *self)
{
    if (self->word >= 0)
        epoll_ctl(self->epoll, EPOLL_CTL_DEL, self->word, NULL);
    self->word = -1;
    Py_CLEAR(self->on_word);
}

/* Forgets whom it calls. */
static void let_go(Hub *self)
{
    forget_word(self);
    Py_CLEAR(self->on_due);
    Py_CLEAR(self->on_tick);
    Py_CLEAR(self->on_astray);
    Py_CLEAR(self->on_landed);
}

static void hub_dealloc(PyObject *object)
{
    Hub *self = (Hub *)object;
    PyTypeObject *type = Py_TYPE(object);
    let_go(self);
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
    drop_launches(self, INT64_MIN);
    Py_XDECREF(self->sent);
    Py_XDECREF(self->landed);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(object);
    Py_DECREF(type);
}

static PyObject *hub_add(PyObject *object, PyObject *args)
{
    Hub *self = (Hub *)object;
    int fd;
    PyObject *owner, *on_read, *on_lost, *on_rest;
    if (!PyArg_ParseTuple(args, "iOOOO:add", &fd, &owner, &on_read, &on_lost, &on_rest))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(stream_type, Py_tp_alloc);
    Stream *stream = (Stream *)allocate(stream_type, 0);
    if (!stream)
        return NULL;
    Py_INCREF(object);
    stream->hub = self;
    stream->fd = -1;
    if (watch_stream(self->epoll, EPOLL_CTL_ADD, fd, stream)) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(stream);
        return NULL;
    }
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on); /* without, turns date */
    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on); /* or a recv would stop before such a byte */
    stream->fd = fd;
    Py_INCREF(owner);
    stream->owner = owner;
    Py_INCREF(on_read);
    stream->on_read = on_read;
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
    find_holes(template);
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

static PyObject *set_time(Hub *self, int64_t *time, PyObject *argument)
{
    int64_t at_ns;
    if (parse_ns(argument, &at_ns))
        return NULL;
    *time = at_ns;
    set_timer(self);
    Py_RETURN_NONE;
}

static PyObject *hub_due(PyObject *object, PyObject *argument)
{
    return set_time((Hub *)object, &((Hub *)object)->due_ns, argument);
}

static PyObject *hub_tick(PyObject *object, PyObject *argument)
{
    return set_time((Hub *)object, &((Hub *)object)->tick_ns, argument);
}

static PyObject *hub_watch(PyObject *object, PyObject *args)
{
    Hub *self = (Hub *)object;
    int fd;
    PyObject *on_word;
    if (!PyArg_ParseTuple(args, "iO:watch", &fd, &on_word))
        return NULL;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = self};
    forget_word(self);
    if (fd >= 0) {
        if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event))
            return PyErr_SetFromErrno(PyExc_OSError);
        self->word = fd;
        Py_INCREF(on_word);
        self->on_word = on_word;
    }
    Py_RETURN_NONE;
}

static PyObject *hub_launch(PyObject *object, PyObject *args)
{
    Hub *self = (Hub *)object;
    PyObject *record, *request;
    long long intended_ns;
    if (!PyArg_ParseTuple(args, "OSL:launch", &record, &request, &intended_ns)
        || add_launch(self, record, request, intended_ns))
        return NULL;
    set_timer(self);
    Py_RETURN_NONE;
}

static PyObject *hub_recall(PyObject *object, PyObject *argument)
{
    Hub *self = (Hub *)object;
    int64_t from_ns;
    if (parse_ns(argument, &from_ns))
        return NULL;
    int64_t first_ns = drop_launches(self, from_ns);
    set_timer(self);
    if (first_ns < 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(first_ns);
}

static PyObject *hub_send(PyObject *object, PyObject *args)
{
    Hub *self = (Hub *)object;
    Request request;
    if (parse_request(args, &request))
        return NULL;
    Stream *stream = take_idle(self, request.sent_ns);
    if (!stream)
        Py_RETURN_NONE;
    PyObject *owner = stream->owner;
    Py_INCREF(owner);
    Py_INCREF((PyObject *)stream);
    int failed = begin(stream, &request);
    Py_DECREF((PyObject *)stream);
    if (failed)
        Py_CLEAR(owner);
    return owner;
}

static PyObject *hub_stale(PyObject *object, PyObject *argument)
{
    Hub *self = (Hub *)object;
    int64_t at_ns;
    if (parse_ns(argument, &at_ns))
        return NULL;
    PyObject *found = PyList_New(0);
    for (Stream *s = self->oldest; found && s && at_ns - s->idle_since > self->idle_limit_ns; s = s->newer)
        if (PyList_Append(found, s->owner))
            Py_CLEAR(found);
    return found;
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

static PyObject *hub_poll(PyObject *object, PyObject *argument)
{
    Hub *self = (Hub *)object;
    int64_t linger_ns;
    if (parse_ns(argument, &linger_ns))
        return NULL;
    if (self->polling) {
        PyErr_SetString(PyExc_RuntimeError, "poll was called by what it called");
        return NULL;
    }
    self->polling = 1;
    self->called = 0;
    int64_t until_ns = now_ns() + linger_ns;
    int failed = turn(self, 0);
    while (!failed && !self->called && linger_ns > 0 && (linger_ns = until_ns - now_ns()) > 0)
        failed = turn(self, linger_ns);
    self->polling = 0;
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *hub_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    Hub *self = (Hub *)object;
    drop_launches(self, INT64_MIN);
    let_go(self);
    if (PyList_SetSlice(self->sent, 0, PyList_Size(self->sent), NULL)
        || PyList_SetSlice(self->landed, 0, PyList_Size(self->landed), NULL))
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

/* The list as it is, which a new one follows. */
static PyObject *take_list(PyObject **list)
{
    PyObject *fresh = PyList_New(0), *taken = *list;
    if (!fresh)
        return NULL;
    *list = fresh;
    return taken;
}

static PyObject *hub_take_sent(PyObject *object, PyObject *unused)
{
    (void)unused;
    return take_list(&((Hub *)object)->sent);
}

static PyObject *hub_take_landed(PyObject *object, PyObject *unused)
{
    (void)unused;
    return take_list(&((Hub *)object)->landed);
}

static PyMethodDef hub_methods[] = {
    {"add", hub_add, METH_VARARGS, NULL},
    {"learn", hub_learn, METH_VARARGS, NULL},
    {"due", hub_due, METH_O, NULL},
    {"tick", hub_tick, METH_O, NULL},
    {"watch", hub_watch, METH_VARARGS, NULL},
    {"poll", hub_poll, METH_O, NULL},
    {"fileno", hub_fileno, METH_NOARGS, NULL},
    {"launch", hub_launch, METH_VARARGS, NULL},
    {"recall", hub_recall, METH_O, NULL},
    {"fire", hub_fire, METH_NOARGS, NULL},
    {"send", hub_send, METH_VARARGS, NULL},
    {"stale", hub_stale, METH_O, NULL},
    {"take_sent", hub_take_sent, METH_NOARGS, NULL},
    {"take_landed", hub_take_landed, METH_NOARGS, NULL},
    {"take_ttfts", hub_take_ttfts, METH_NOARGS, NULL},
    {"take_gaps", hub_take_gaps, METH_NOARGS, NULL},
    {"close", hub_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef hub_members[] = {
    {"on_due", T_OBJECT, offsetof(Hub, on_due), 0, NULL},
    {"on_tick", T_OBJECT, offsetof(Hub, on_tick), 0, NULL},
    {"on_astray", T_OBJECT, offsetof(Hub, on_astray), 0, NULL},
    {"on_landed", T_OBJECT, offsetof(Hub, on_landed), 0, NULL},
    {"most_waiting", T_INT, offsetof(Hub, most_waiting), 0, NULL},
    {"idle_limit_ns", T_LONGLONG, offsetof(Hub, idle_limit_ns), 0, NULL},
    {"idle", T_INT, offsetof(Hub, idle), READONLY, NULL},
    {"launched", T_INT, offsetof(Hub, launched), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot hub_slots[] = {
    {Py_tp_new, hub_new},
    {Py_tp_dealloc, hub_dealloc},
    {Py_tp_methods, hub_methods},
    {Py_tp_members, hub_members},
    {0, NULL},
};

static PyType_Spec hub_spec = {"rvtop.load.native._native.Hub", sizeof(Hub), 0, Py_TPFLAGS_DEFAULT, hub_slots};

/* -- the module ---------------------------------------------------------------------------------------- */

static PyObject *module_count_buckets(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer values, edges;
    if (!PyArg_ParseTuple(args, "y*y*:count_buckets", &values, &edges))
        return NULL;
    size_t size, n = (size_t)values.len / sizeof(int64_t), buckets = (size_t)edges.len / sizeof(int64_t);
    char *text = buckets ? count_buckets(values.buf, n, edges.buf, buckets, &size) : NULL;
    PyObject *made = text ? PyBytes_FromStringAndSize(text, (Py_ssize_t)size) : PyErr_NoMemory();
    free(text);
    PyBuffer_Release(&values);
    PyBuffer_Release(&edges);
    return made;
}

static PyMethodDef module_functions[] = {
    {"count_buckets", module_count_buckets, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_native", NULL, -1, module_functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
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
