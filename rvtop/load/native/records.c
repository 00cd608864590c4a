/* TLS: what a socket takes and brings is encrypted, which Python's ssl sees to (wire/tls.py). */
#include "native.h"

enum { RECORD_HEAD = 5, APPLICATION_DATA = 23 }; /* RFC 8446 §5.1 */

/* Gives a connection its Tls, if that is not None. -1: it raised; clear_tls is to be called then. */
int set_tls(Conn *self, PyObject *tls)
{
    if (tls == Py_None)
        return 0;
    Py_INCREF(tls);
    self->tls = tls;
    self->put = PyObject_GetAttrString(tls, "put");
    self->take = PyObject_GetAttrString(tls, "take");
    return self->put && self->take ? 0 : -1;
}

void clear_tls(Conn *self)
{
    Py_CLEAR(self->tls);
    Py_CLEAR(self->put);
    Py_CLEAR(self->take);
}

/* What is to be written for bytes: these, unless the connection has TLS. A new reference; NULL when it raised. */
PyObject *encrypted(Conn *self, PyObject *bytes)
{
    if (self->tls)
        return PyObject_CallMethod(self->tls, "encrypt", "O", bytes);
    Py_INCREF(bytes);
    return bytes;
}

/* Sends what TLS itself has to say. -1: it raised. */
static int send_reply(Conn *self, PyObject *reply)
{
    PyObject *rest;
    if (write_now(self, reply, &rest))
        return -1;
    if (!rest)
        return 0;
    /* A request must not overtake it: Python ends the one in flight, and no other follows. */
    self->place = ELSEWHERE;
    set_in_native(self, 0);
    retire(self);
    return hand(self->poller, self->on_rest, rest);
}

/* The plain bytes go where those of a socket without TLS would. */
static int take_plain(Conn *self, PyObject *plain, int64_t stamp_ns)
{
    char *bytes, *buffer = self->poller->buffer;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(plain, &bytes, &size))
        return -1;
    if (size > READ_SIZE + RECORD_SIZE) {
        PyErr_SetString(PyExc_ValueError, "a read brought more than its bytes and a record that was begun");
        return -1;
    }
    memcpy(buffer, bytes, (size_t)size);
    return size ? take_read(self, buffer, buffer + size, stamp_ns) : 0;
}

/* Whether p is one record of data and nothing else. */
static int one_record(const unsigned char *p, size_t size)
{
    return size > RECORD_HEAD && p[0] == APPLICATION_DATA && RECORD_HEAD + (size_t)(p[3] << 8 | p[4]) == size;
}

/* What one record holds that came whole while none was begun, without a line of Python. NULL: it raised; empty:
 * close_notify, for decrypt to see. */
static PyObject *take_one(Conn *self, PyObject *bytes, size_t size)
{
    PyObject *written = PyObject_CallFunctionObjArgs(self->put, bytes, NULL);
    PyObject *room = written ? PyLong_FromSize_t(size) : NULL;
    PyObject *plain = room ? PyObject_CallFunctionObjArgs(self->take, room, NULL) : NULL;
    Py_XDECREF(written);
    Py_XDECREF(room);
    return plain;
}

/* What a Tls makes of bytes, in whatever state it is, or of what take_one has just raised. NULL: it raised. */
static PyObject *decrypt(Conn *self, PyObject *bytes, PyObject *failure)
{
    PyObject *got = PyObject_CallMethod(self->tls, "decrypt", "OO", bytes, failure);
    PyObject *even = got ? PyObject_GetAttrString(self->tls, "even") : NULL;
    self->even = even == Py_True;
    if (!even)
        Py_CLEAR(got);
    Py_XDECREF(even);
    return got;
}

/* What a Tls makes of a record that take_one got nothing from: a failure, or close_notify. NULL: it raised. */
static PyObject *look_again(Conn *self, PyObject *nothing)
{
    PyObject *type, *failure, *trace, *got = NULL, *empty = PyBytes_FromStringAndSize(NULL, 0);
    Py_XDECREF(nothing);
    PyErr_Fetch(&type, &failure, &trace);
    PyErr_NormalizeException(&type, &failure, &trace);
    if (empty)
        got = decrypt(self, empty, failure ? failure : Py_None);
    Py_XDECREF(empty);
    Py_XDECREF(type);
    Py_XDECREF(failure);
    Py_XDECREF(trace);
    return got;
}

/* What one recv brought to the poller's buffer on a connection with TLS: several records, or part of one. Its date
 * is that of the recv which completed it. -1: it raised. */
int take_records(Conn *self, size_t size, int64_t stamp_ns)
{
    PyObject *bytes = PyBytes_FromStringAndSize(self->poller->buffer, (Py_ssize_t)size);
    PyObject *got = NULL;
    if (bytes && self->even && one_record((unsigned char *)self->poller->buffer, size)) {
        got = take_one(self, bytes, size);
        if (!got || !PyBytes_Size(got))
            got = look_again(self, got);
    } else if (bytes) {
        got = decrypt(self, bytes, Py_None);
    }
    PyObject *plain = got, *reply = NULL, *end = NULL;
    Py_XDECREF(bytes);
    int failed = !got || (PyTuple_Check(got) && !PyArg_ParseTuple(got, "SSO", &plain, &reply, &end));
    if (!failed && reply && PyBytes_Size(reply))
        failed = send_reply(self, reply);
    if (!failed && self->fd >= 0)
        failed = take_plain(self, plain, stamp_ns);
    if (!failed && self->fd >= 0 && end && end != Py_None) {
        Py_INCREF(end);
        failed = hand(self->poller, self->on_lost, end);
    }
    Py_XDECREF(got);
    return failed ? -1 : 0;
}
