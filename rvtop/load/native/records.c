/* TLS: what a socket takes and brings is encrypted, which Python's ssl sees to (wire/tls.py). */
#include "native.h"

/* What is to be written for bytes: these, unless the connection has TLS. A new reference; NULL when it raised. */
PyObject *encrypted(Conn *self, PyObject *bytes)
{
    if (self->encrypt)
        return PyObject_CallFunctionObjArgs(self->encrypt, bytes, NULL);
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

/* What one recv brought to the poller's buffer on a connection with TLS: several records, or part of one. Its date
 * is that of the recv which completed it. -1: it raised. */
int take_records(Conn *self, size_t size, int64_t stamp_ns)
{
    PyObject *bytes = PyBytes_FromStringAndSize(self->poller->buffer, (Py_ssize_t)size);
    PyObject *got = bytes ? PyObject_CallFunctionObjArgs(self->decrypt, bytes, NULL) : NULL;
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
