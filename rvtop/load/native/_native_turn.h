/* A turn: what has come is read, and what is due is done. */
#pragma once

#include "_native_answer.h"

enum {
    MOST_EVENTS = 4096, /* of one turn */
    DUE_EVERY = 8,      /* streams of a turn between two looks at the clock for what is due */
};

static int watch_stream(int epoll, int how, int fd, Stream *stream)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = stream};
    return epoll_ctl(epoll, how, fd, &event);
}

/* Reads what epoll_wait told of. */
static int read_all(Hub *self, int count)
{
    int failed = 0, word = 0;
    /* Whoever is called from here may end any stream of this turn. */
    for (int i = 0; i < count; i++) {
        word |= self->events[i].data.ptr == self;
        Py_XINCREF((PyObject *)self->events[i].data.ptr);
    }
    if (word && self->word >= 0)
        failed = call(self, self->on_word, NULL);
    for (int i = 0; i < count; i++) {
        PyObject *who = self->events[i].data.ptr;
        Stream *stream = who == (PyObject *)self ? NULL : (Stream *)who; /* NULL: a word, or the timer */
        if (!failed && i % DUE_EVERY == 0)
            failed = heed_due(self);
        if (!failed && stream && stream->fd >= 0)
            failed = read_stream(stream, self->events[i].events);
        if (failed && stream && stream->fd >= 0) /* told again of what is left: the next poll reads on */
            watch_stream(self->epoll, EPOLL_CTL_MOD, stream->fd, stream);
        Py_XDECREF(who);
    }
    return failed;
}

/* One turn: waits for something to happen, for so long at most, and sees to it. */
static int turn(Hub *self, int64_t for_ns)
{
    self->before_ns = self->asked_ns;
    self->asked_ns = now_ns();
    int count;
    if (for_ns > 0) {
        PyThreadState *state = PyEval_SaveThread();
        count = epoll_wait(self->epoll, self->events, MOST_EVENTS, (int)((for_ns + 999999) / 1000000));
        PyEval_RestoreThread(state);
        if (count < 0) /* a signal, which Python sees to */
            self->called = 1;
    } else {
        count = epoll_wait(self->epoll, self->events, MOST_EVENTS, 0);
    }
    self->turn_ns = now_ns();
    if (count >= 0 && count < MOST_EVENTS) /* else a word may not have been among them */
        self->heard_ns = self->turn_ns;
    self->ahead_ns = ahead_ns();
    /* What came before the last turn, that one has read. */
    self->unsure = self->turn_ns - self->before_ns <= EXACT_NS ? 0 : SAMPLE;
    int failed = read_all(self, count);
    if (failed || count == MOST_EVENTS) /* not all that had come by then was read */
        self->asked_ns = self->before_ns;
    Py_ssize_t landed = PyList_Size(self->landed);
    if (!failed && self->on_landed && landed && (landed > self->most_waiting || !self->aloft))
        failed = call(self, self->on_landed, NULL);
    if (!failed && self->on_tick && now_ns() >= self->tick_ns) {
        self->tick_ns = INT64_MAX;
        failed = call(self, self->on_tick, NULL);
    }
    if (failed || now_ns() >= self->timer_ns) { /* the next poll sees to what is due */
        self->timer_ns = 0;
        set_timer(self);
    }
    return failed;
}
