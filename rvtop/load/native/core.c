/* Numbers that grow, and calls of Python. */
#include "native.h"

PyObject *take(Numbers *numbers)
{
    PyObject *bytes =
        PyBytes_FromStringAndSize((char *)numbers->items, (Py_ssize_t)(numbers->size * sizeof(int64_t)));
    if (bytes)
        numbers->size = 0;
    return bytes;
}

/* Makes room for size bytes at *bytes. */
int reserve(char **bytes, size_t *room, size_t size)
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

/* Calls function, with an argument if that is not NULL. -1: it raised. */
int call(Poller *poller, PyObject *function, PyObject *argument)
{
    poller->called = 1;
    if (!function) {
        PyErr_SetString(PyExc_RuntimeError, "no callback is set: the poller is closed, or not set up");
        return -1;
    }
    Py_INCREF(function); /* what is called may let go of the last other reference to it */
    PyObject *result = PyObject_CallFunctionObjArgs(function, argument, NULL);
    Py_DECREF(function);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* The same with a new reference, which is taken; -1 also when it could not be made. */
int hand(Poller *poller, PyObject *function, PyObject *made)
{
    int failed = made ? call(poller, function, made) : -1;
    Py_XDECREF(made);
    return failed;
}

/* Adds a new reference to a list, which takes it; -1 also when it could not be made. */
int keep(PyObject *list, PyObject *made)
{
    int failed = made ? PyList_Append(list, made) : -1;
    Py_XDECREF(made);
    return failed;
}
