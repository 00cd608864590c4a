/* A turn: what has come is read, and what is due is done. */
#include "native.h"

enum { DUE_EVERY = 8 }; /* connections of a turn between two looks at the clock for what is due */

int watch_conn(int epoll, int how, int fd, Conn *conn)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = conn};
    return epoll_ctl(epoll, how, fd, &event);
}

/* Reads what epoll_wait reported. */
static int read_all(Poller *self, int count)
{
    int failed = 0, commands = 0;
    /* What is called from here may close any connection of this turn. */
    for (int i = 0; i < count; i++) {
        commands |= self->events[i].data.ptr == self;
        Py_XINCREF((PyObject *)self->events[i].data.ptr);
    }
    if (commands && self->command_fd >= 0)
        failed = call(self, self->on_command, NULL);
    for (int i = 0; i < count; i++) {
        PyObject *who = self->events[i].data.ptr;
        Conn *conn = who == (PyObject *)self ? NULL : (Conn *)who; /* NULL: a command, or the timer */
        if (!failed && i % DUE_EVERY == 0)
            failed = run_due(self);
        if (!failed && conn && conn->fd >= 0)
            failed = read_conn(conn, self->events[i].events);
        if (failed && conn && conn->fd >= 0) /* reported again: the next poll reads on */
            watch_conn(self->epoll, EPOLL_CTL_MOD, conn->fd, conn);
        Py_XDECREF(who);
    }
    return failed;
}

/* One turn: waits for something to happen, for so long at most, and sees to it. */
int turn(Poller *self, int64_t for_ns)
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
    if (count >= 0 && count < MOST_EVENTS) /* else a command may not have been among them */
        self->last_polled_ns = self->turn_ns;
    self->ahead_ns = ahead_ns();
    /* What came before the last turn, that one has read. */
    self->unsure = self->turn_ns - self->before_ns <= EXACT_NS ? 0 : SAMPLE;
    int failed = read_all(self, count);
    if (failed || count == MOST_EVENTS) /* not all that had come by then was read */
        self->asked_ns = self->before_ns;
    Py_ssize_t completed = PyList_Size(self->completed);
    if (!failed && self->on_completed && completed && (completed > self->most_waiting || !self->in_native))
        failed = call(self, self->on_completed, NULL);
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
