/* The Poller as Python has it: one epoll instance, one timer, and what waits for its time. */
#include "native.h"

static PyObject *poller_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_Size(args) || (kwargs && PyDict_Size(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "Poller takes no arguments");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Poller *self = (Poller *)allocate(type, 0);
    if (!self)
        return NULL;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    self->due_ns = self->tick_ns = self->timer_ns = INT64_MAX;
    self->idle_limit_ns = INT64_MAX;
    self->command_fd = -1;
    self->sent = PyList_New(0);
    self->completed = PyList_New(0);
    self->events = calloc(MOST_EVENTS, sizeof *self->events);
    self->buffer = malloc(READ_SIZE + RECORD_SIZE);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}; /* without a connection: the timer */
    if (self->epoll < 0 || self->timer < 0 || epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->timer, &event))
        PyErr_SetFromErrno(PyExc_OSError);
    else if (!self->events || !self->buffer)
        PyErr_NoMemory();
    else if (self->sent && self->completed)
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static void unwatch_commands(Poller *self)
{
    if (self->command_fd >= 0)
        epoll_ctl(self->epoll, EPOLL_CTL_DEL, self->command_fd, NULL);
    self->command_fd = -1;
    Py_CLEAR(self->on_command);
}

/* Drops all callbacks. */
static void clear_callbacks(Poller *self)
{
    unwatch_commands(self);
    Py_CLEAR(self->on_due);
    Py_CLEAR(self->on_tick);
    Py_CLEAR(self->on_no_connection);
    Py_CLEAR(self->on_completed);
}

static void poller_dealloc(PyObject *object)
{
    Poller *self = (Poller *)object;
    PyTypeObject *type = Py_TYPE(object);
    clear_callbacks(self);
    if (self->timer >= 0)
        close(self->timer);
    if (self->epoll >= 0)
        close(self->epoll);
    free(self->events);
    free(self->buffer);
    free(self->head.bytes);
    free(self->preamble.bytes);
    free(self->first.bytes);
    free(self->ttfts.items);
    free(self->gaps.items);
    drop_scheduled_from(self, INT64_MIN);
    Py_XDECREF(self->sent);
    Py_XDECREF(self->completed);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(object);
    Py_DECREF(type);
}

static PyObject *poller_add(PyObject *object, PyObject *args)
{
    Poller *self = (Poller *)object;
    int fd;
    PyObject *owner, *on_read, *on_lost, *on_rest, *tls = Py_None;
    if (!PyArg_ParseTuple(args, "iOOOO|O:add", &fd, &owner, &on_read, &on_lost, &on_rest, &tls))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(conn_type, Py_tp_alloc);
    Conn *conn = (Conn *)allocate(conn_type, 0);
    if (!conn)
        return NULL;
    Py_INCREF(object);
    conn->poller = self;
    conn->fd = -1;
    int failed = set_tls(conn, tls);
    if (!failed && watch_conn(self->epoll, EPOLL_CTL_ADD, fd, conn)) {
        PyErr_SetFromErrno(PyExc_OSError);
        failed = -1;
    }
    if (failed) {
        clear_tls(conn);
        Py_DECREF(conn);
        return NULL;
    }
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on); /* without, turns date */
    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on); /* or a recv would stop before such a byte */
    conn->fd = fd;
    Py_INCREF(owner);
    conn->owner = owner;
    Py_INCREF(on_read);
    conn->on_read = on_read;
    Py_INCREF(on_lost);
    conn->on_lost = on_lost;
    Py_INCREF(on_rest);
    conn->on_rest = on_rest;
    Py_INCREF((PyObject *)conn); /* the registration's own, until release */
    return (PyObject *)conn;
}

static int set_template(Template *template, const char *bytes, Py_ssize_t size)
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

static PyObject *poller_set_template(PyObject *object, PyObject *args)
{
    Poller *self = (Poller *)object;
    const char *head, *preamble, *first;
    Py_ssize_t head_size, preamble_size, first_size;
    if (!PyArg_ParseTuple(
            args, "y#y#y#:set_template", &head, &head_size, &preamble, &preamble_size, &first, &first_size))
        return NULL;
    if (set_template(&self->head, head, head_size) || set_template(&self->preamble, preamble, preamble_size)
        || set_template(&self->first, first, first_size))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *set_time(Poller *self, int64_t *time, PyObject *argument)
{
    int64_t at_ns;
    if (parse_ns(argument, &at_ns))
        return NULL;
    *time = at_ns;
    set_timer(self);
    Py_RETURN_NONE;
}

static PyObject *poller_due(PyObject *object, PyObject *argument)
{
    return set_time((Poller *)object, &((Poller *)object)->due_ns, argument);
}

static PyObject *poller_tick(PyObject *object, PyObject *argument)
{
    return set_time((Poller *)object, &((Poller *)object)->tick_ns, argument);
}

static PyObject *poller_watch(PyObject *object, PyObject *args)
{
    Poller *self = (Poller *)object;
    int fd;
    PyObject *on_command;
    if (!PyArg_ParseTuple(args, "iO:watch", &fd, &on_command))
        return NULL;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = self};
    unwatch_commands(self);
    if (fd >= 0) {
        if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event))
            return PyErr_SetFromErrno(PyExc_OSError);
        self->command_fd = fd;
        Py_INCREF(on_command);
        self->on_command = on_command;
    }
    Py_RETURN_NONE;
}

static PyObject *poller_schedule(PyObject *object, PyObject *args)
{
    Poller *self = (Poller *)object;
    PyObject *record, *request;
    long long intended_ns;
    if (!PyArg_ParseTuple(args, "OSL:schedule", &record, &request, &intended_ns)
        || add_scheduled(self, record, request, intended_ns))
        return NULL;
    set_timer(self);
    Py_RETURN_NONE;
}

static PyObject *poller_unschedule(PyObject *object, PyObject *argument)
{
    Poller *self = (Poller *)object;
    int64_t from_ns;
    if (parse_ns(argument, &from_ns))
        return NULL;
    int64_t first_ns = drop_scheduled_from(self, from_ns);
    set_timer(self);
    if (first_ns < 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(first_ns);
}

static PyObject *poller_send(PyObject *object, PyObject *args)
{
    Poller *self = (Poller *)object;
    Request request;
    if (parse_request(args, &request))
        return NULL;
    Conn *conn = take_idle(self, request.sent_ns);
    if (!conn)
        Py_RETURN_NONE;
    PyObject *owner = conn->owner;
    Py_INCREF(owner);
    Py_INCREF((PyObject *)conn);
    int failed = begin(conn, &request);
    Py_DECREF((PyObject *)conn);
    if (failed)
        Py_CLEAR(owner);
    return owner;
}

static PyObject *poller_stale(PyObject *object, PyObject *argument)
{
    Poller *self = (Poller *)object;
    int64_t at_ns;
    if (parse_ns(argument, &at_ns))
        return NULL;
    PyObject *found = PyList_New(0);
    for (Conn *s = self->oldest; found && s; s = s->newer) {
        if (!s->retired && at_ns - s->idle_since <= self->idle_limit_ns)
            break;
        if (PyList_Append(found, s->owner))
            Py_CLEAR(found);
    }
    return found;
}

static PyObject *poller_send_due(PyObject *object, PyObject *unused)
{
    (void)unused;
    int failed = send_due((Poller *)object);
    set_timer((Poller *)object);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *poller_poll(PyObject *object, PyObject *argument)
{
    Poller *self = (Poller *)object;
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

static PyObject *poller_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    Poller *self = (Poller *)object;
    drop_scheduled_from(self, INT64_MIN);
    clear_callbacks(self);
    if (PyList_SetSlice(self->sent, 0, PyList_Size(self->sent), NULL)
        || PyList_SetSlice(self->completed, 0, PyList_Size(self->completed), NULL))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *poller_fileno(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(((Poller *)object)->epoll);
}

static PyObject *poller_take_gaps(PyObject *object, PyObject *unused)
{
    (void)unused;
    return take(&((Poller *)object)->gaps);
}

static PyObject *poller_take_ttfts(PyObject *object, PyObject *unused)
{
    (void)unused;
    return take(&((Poller *)object)->ttfts);
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

static PyObject *poller_take_sent(PyObject *object, PyObject *unused)
{
    (void)unused;
    return take_list(&((Poller *)object)->sent);
}

static PyObject *poller_take_completed(PyObject *object, PyObject *unused)
{
    (void)unused;
    return take_list(&((Poller *)object)->completed);
}

static PyMethodDef poller_methods[] = {
    {"add", poller_add, METH_VARARGS, NULL},
    {"set_template", poller_set_template, METH_VARARGS, NULL},
    {"due", poller_due, METH_O, NULL},
    {"tick", poller_tick, METH_O, NULL},
    {"watch", poller_watch, METH_VARARGS, NULL},
    {"poll", poller_poll, METH_O, NULL},
    {"fileno", poller_fileno, METH_NOARGS, NULL},
    {"schedule", poller_schedule, METH_VARARGS, NULL},
    {"unschedule", poller_unschedule, METH_O, NULL},
    {"send_due", poller_send_due, METH_NOARGS, NULL},
    {"send", poller_send, METH_VARARGS, NULL},
    {"stale", poller_stale, METH_O, NULL},
    {"take_sent", poller_take_sent, METH_NOARGS, NULL},
    {"take_completed", poller_take_completed, METH_NOARGS, NULL},
    {"take_ttfts", poller_take_ttfts, METH_NOARGS, NULL},
    {"take_gaps", poller_take_gaps, METH_NOARGS, NULL},
    {"close", poller_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef poller_members[] = {
    {"on_due", T_OBJECT, offsetof(Poller, on_due), 0, NULL},
    {"on_tick", T_OBJECT, offsetof(Poller, on_tick), 0, NULL},
    {"on_no_connection", T_OBJECT, offsetof(Poller, on_no_connection), 0, NULL},
    {"on_completed", T_OBJECT, offsetof(Poller, on_completed), 0, NULL},
    {"most_waiting", T_INT, offsetof(Poller, most_waiting), 0, NULL},
    {"idle_limit_ns", T_LONGLONG, offsetof(Poller, idle_limit_ns), 0, NULL},
    {"idle", T_INT, offsetof(Poller, idle), READONLY, NULL},
    {"scheduled", T_INT, offsetof(Poller, scheduled), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot poller_slots[] = {
    {Py_tp_new, poller_new},
    {Py_tp_dealloc, poller_dealloc},
    {Py_tp_methods, poller_methods},
    {Py_tp_members, poller_members},
    {0, NULL},
};

PyType_Spec poller_spec = {"rvtop.load.native._native.Poller", sizeof(Poller), 0, Py_TPFLAGS_DEFAULT, poller_slots};
