/* The Conn as Python has it: one connection, with what reads it and what is in flight on it. */
#include "native.h"

PyTypeObject *conn_type;

static void release(Conn *self)
{
    if (self->fd < 0)
        return;
    epoll_ctl(self->poller->epoll, EPOLL_CTL_DEL, self->fd, NULL);
    self->fd = -1;
    set_busy(self);
    finish(self);
    Py_CLEAR(self->owner);
    Py_CLEAR(self->on_read);
    Py_CLEAR(self->on_lost);
    Py_CLEAR(self->on_rest);
    clear_tls(self);
    Py_DECREF((PyObject *)self); /* the registration's own reference */
}

static PyObject *conn_release(PyObject *object, PyObject *unused)
{
    (void)unused;
    release((Conn *)object);
    Py_RETURN_NONE;
}

static PyObject *conn_send(PyObject *object, PyObject *args)
{
    Conn *self = (Conn *)object;
    Request request;
    if (parse_request(args, &request))
        return NULL;
    if (self->fd < 0 || self->record) {
        PyErr_SetString(PyExc_ValueError, "the connection is released, or has a request in flight");
        return NULL;
    }
    set_busy(self);
    if (begin(self, &request))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *conn_finish(PyObject *object, PyObject *unused)
{
    (void)unused;
    finish((Conn *)object);
    Py_RETURN_NONE;
}

static PyObject *conn_rest(PyObject *object, PyObject *unused)
{
    (void)unused;
    set_idle((Conn *)object);
    Py_RETURN_NONE;
}

static PyObject *conn_retire(PyObject *object, PyObject *unused)
{
    (void)unused;
    retire((Conn *)object);
    Py_RETURN_NONE;
}

static PyObject *conn_expect_tokens(PyObject *object, PyObject *args)
{
    Conn *self = (Conn *)object;
    const char *before, *after;
    Py_ssize_t before_size, after_size;
    long long last_ns;
    if (!PyArg_ParseTuple(args, "y#y#L:expect_tokens", &before, &before_size, &after, &after_size, &last_ns))
        return NULL;
    if (set_pattern(self, before, (size_t)before_size, after, (size_t)after_size))
        return NULL;
    self->last_ns = last_ns;
    self->place = self->fd >= 0 ? TOKENS : ELSEWHERE;
    Py_RETURN_NONE;
}

static PyObject *conn_take_gaps(PyObject *object, PyObject *unused)
{
    (void)unused;
    return take(&((Conn *)object)->gaps);
}

static PyObject *conn_arm(PyObject *object, PyObject *unused)
{
    (void)unused;
    Conn *self = (Conn *)object;
    return PyBytes_FromStringAndSize(self->arm, (Py_ssize_t)self->arm_size);
}

static void conn_dealloc(PyObject *object)
{
    Conn *self = (Conn *)object;
    PyTypeObject *type = Py_TYPE(object);
    free(self->pattern);
    free(self->gaps.items);
    Py_XDECREF((PyObject *)self->poller);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(object);
    Py_DECREF(type);
}

static PyMethodDef conn_methods[] = {
    {"send", conn_send, METH_VARARGS, NULL},
    {"finish", conn_finish, METH_NOARGS, NULL},
    {"rest", conn_rest, METH_NOARGS, NULL},
    {"retire", conn_retire, METH_NOARGS, NULL},
    {"expect_tokens", conn_expect_tokens, METH_VARARGS, NULL},
    {"take_gaps", conn_take_gaps, METH_NOARGS, NULL},
    {"arm", conn_arm, METH_NOARGS, NULL},
    {"release", conn_release, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef conn_members[] = {
    {"record", T_OBJECT, offsetof(Conn, record), READONLY, NULL},
    {"opened", T_INT, offsetof(Conn, opened), READONLY, NULL},
    {"sent_ns", T_LONGLONG, offsetof(Conn, sent_ns), READONLY, NULL},
    {"head_ns", T_LONGLONG, offsetof(Conn, head_ns), READONLY, NULL},
    {"first_ns", T_LONGLONG, offsetof(Conn, first_ns), READONLY, NULL},
    {"read_ns", T_LONGLONG, offsetof(Conn, read_ns), READONLY, NULL},
    {"last_ns", T_LONGLONG, offsetof(Conn, last_ns), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot conn_slots[] = {
    {Py_tp_dealloc, conn_dealloc},
    {Py_tp_methods, conn_methods},
    {Py_tp_members, conn_members},
    {0, NULL},
};

PyType_Spec conn_spec = {
    "rvtop.load.native._native.Conn",
    sizeof(Conn),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    conn_slots,
};
