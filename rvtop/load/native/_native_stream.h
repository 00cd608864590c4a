/* The Stream as Python has it: one connection, with what reads it and what is in flight on it. */
#pragma once

#include "_native_answer.h"

#include <structmember.h>

static PyTypeObject *stream_type;

static void release(Stream *self)
{
    if (self->fd < 0)
        return;
    epoll_ctl(self->hub->epoll, EPOLL_CTL_DEL, self->fd, NULL);
    self->fd = -1;
    set_busy(self);
    finish(self);
    Py_CLEAR(self->owner);
    Py_CLEAR(self->on_read);
    Py_CLEAR(self->on_lost);
    Py_CLEAR(self->on_rest);
    Py_DECREF((PyObject *)self); /* the registration's own reference */
}

static PyObject *stream_release(PyObject *object, PyObject *unused)
{
    (void)unused;
    release((Stream *)object);
    Py_RETURN_NONE;
}

static PyObject *stream_send(PyObject *object, PyObject *args)
{
    Stream *self = (Stream *)object;
    Request request;
    if (parse_request(args, &request))
        return NULL;
    if (self->fd < 0 || self->record) {
        PyErr_SetString(PyExc_ValueError, "the stream is released, or has a request in flight");
        return NULL;
    }
    set_busy(self);
    if (begin(self, &request))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *stream_finish(PyObject *object, PyObject *unused)
{
    (void)unused;
    finish((Stream *)object);
    Py_RETURN_NONE;
}

static PyObject *stream_rest(PyObject *object, PyObject *unused)
{
    (void)unused;
    set_idle((Stream *)object);
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
    {"finish", stream_finish, METH_NOARGS, NULL},
    {"rest", stream_rest, METH_NOARGS, NULL},
    {"arm", stream_arm, METH_VARARGS, NULL},
    {"take_gaps", stream_take_gaps, METH_NOARGS, NULL},
    {"release", stream_release, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef stream_members[] = {
    {"record", T_OBJECT, offsetof(Stream, record), READONLY, NULL},
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
    "rvtop.load.native._native.Stream",
    sizeof(Stream),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    stream_slots,
};
