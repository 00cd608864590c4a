/* Requests: sent at once, or by themselves at their time; and the ends of their answers, which wait for each
 * other before Python is told. */
#pragma once

#include <sys/socket.h>

#include "_reads_core.h"

/* The timer goes off when something is due. */
static void set_timer(Hub *self)
{
    int64_t at_ns = self->due_ns;
    if (self->launched.first && self->launched.first->intended_ns < at_ns)
        at_ns = self->launched.first->intended_ns;
    if (at_ns < 1)
        at_ns = 1; /* zero would disarm it */
    if (at_ns == self->timer_ns)
        return;
    self->timer_ns = at_ns;
    struct itimerspec spec = {.it_value = {at_ns / 1000000000, at_ns % 1000000000}};
    timerfd_settime(self->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void set_aloft(Stream *self, int aloft)
{
    self->hub->aloft += aloft - self->aloft;
    self->aloft = aloft;
}

/* Begins a request: how much of it the socket took, 0 if that failed. */
static ssize_t begin_request(Stream *self, const char *data, size_t size, int known)
{
    self->head_ns = self->first_ns = self->read_ns = self->last_ns = 0;
    self->opened = self->handed = 0;
    self->place = known && self->fd >= 0 && self->hub->head.size ? HEAD : ELSEWHERE;
    self->gaps.size = 0;
    set_aloft(self, self->place == HEAD);
    ssize_t n = self->fd < 0 ? 0 : send(self->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n < 0 ? 0 : n;
}

/* Sends the launched requests whose time has come. -1: on_rest raised; the others wait on. */
static int fire(Hub *self)
{
    int failed = 0;
    int64_t now;
    while (!failed && self->launched.first && (now = now_ns()) >= self->launched.first->intended_ns) {
        Stream *stream = pop(&self->launched);
        PyObject *request = stream->request;
        stream->request = NULL;
        if (request) { /* else the stream was released */
            char *data;
            Py_ssize_t size;
            PyBytes_AsStringAndSize(request, &data, &size);
            stream->sent_ns = now;
            ssize_t n = begin_request(stream, data, (size_t)size, 1);
            if (n < size)
                failed = hand(stream->on_rest, PyBytes_FromStringAndSize(data + n, size - n));
            Py_DECREF(request);
        }
        Py_DECREF((PyObject *)stream);
    }
    return failed;
}

/* Tells of the answers that have ended, in that order. -1: a callback raised; the others wait on. */
static int land(Hub *hub)
{
    int failed = 0;
    while (!failed && hub->landed.first) {
        Stream *stream = pop(&hub->landed);
        PyObject *ending = stream->ending;
        hub->waiting--;
        stream->ending = NULL;
        if (stream->fd >= 0)
            failed = call(stream->on_end, ending) || fire(hub) ? -1 : 0;
        Py_DECREF(ending);
        Py_DECREF((PyObject *)stream);
    }
    return failed;
}

/* An answer has ended: on_end gets what stands at p, soon. One call for each as it comes would find the
 * caches filled with sockets, and cost a multiple. */
static int wait_to_land(Stream *self, const char *p, size_t size)
{
    Hub *hub = self->hub;
    self->ending = PyBytes_FromStringAndSize(p, (Py_ssize_t)size);
    if (!self->ending)
        return -1;
    push(&hub->landed, self);
    hub->waiting++;
    return 0;
}
