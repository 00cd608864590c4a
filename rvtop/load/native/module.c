/* The native wire of a load worker: sockets, one epoll instance, and the chunks that differ in their text alone.
 *
 * A streamed completion is hundreds of small reads that all look alike. Here each costs a recv and two
 * comparisons; the interpreter sees only what is out of the ordinary (ends, faults, a form that is not known),
 * from the boundary of an HTTP chunk on. Python reads the first answer (wire/completion.py, wire/connection.py)
 * and sets the pattern of its Conn; templates.py makes from it the Poller's template of how answers begin.
 * Requests that were scheduled go out from here at their time. Without this module all goes through asyncio.
 *
 * poller.c and conn.c are the two types as Python has them; turn.c does one turn of the event loop, requests.c
 * sends, answers.c reads, records.c does both where there is TLS, dates.c dates, text.c knows what bytes say,
 * histogram.c counts what goes into a histogram, core.c is what all of them stand on.
 *
 * Built against the stable ABI of Python 3.11, Linux only; see .ci/build_native.py.
 */
#include "native.h"

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
    PyObject *poller = made ? PyType_FromSpec(&poller_spec) : NULL;
    conn_type = poller ? (PyTypeObject *)PyType_FromSpec(&conn_spec) : NULL;
    if (conn_type && !PyModule_AddObjectRef(made, "Poller", poller)
        && !PyModule_AddObjectRef(made, "Conn", (PyObject *)conn_type)
        && !PyModule_AddStringConstant(made, "SOURCE", SOURCE)) {
        Py_DECREF(poller);
        return made;
    }
    Py_XDECREF(poller);
    Py_XDECREF(made);
    return NULL;
}
