/* Answers: reads of a socket, and what of them needs no Python. */
#include "native.h"

int set_pattern(Conn *self, const char *before, size_t before_size, const char *after, size_t after_size)
{
    if (reserve(&self->pattern, &self->room, before_size + after_size))
        return -1;
    memcpy(self->pattern, before, before_size);
    memcpy(self->pattern + before_size, after, after_size);
    self->before = before_size;
    self->after = after_size;
    return 0;
}

/* The length of the HTTP chunk at p, if it brings a token and nothing else: the event of the poller's
 * template, which is in the caches, or the connection's pattern around a text that is not empty. Else 0. */
static size_t token_chunk(const Conn *self, const char *p, const char *end)
{
    const char *body;
    size_t size, length = whole_chunk(p, end, &body, &size);
    if (!length)
        return 0;
    Span known = {NULL, NULL};
    if (match(&self->poller->first, body, body + size, &known) == body + size && known.begin)
        return length;
    if (size <= self->before + self->after)
        return 0;
    const char *text = body + self->before, *tail = body + size - self->after;
    if (memcmp(body, self->pattern, self->before) || memcmp(tail, self->pattern + self->before, self->after))
        return 0;
    return one_text(text, tail) ? length : 0;
}

/* One token. Those of one read came together: between them no time passed that could be seen. */
static int note(Conn *self, int64_t at_ns)
{
    int64_t gap = at_ns - self->last_ns;
    self->last_ns = at_ns;
    return append(&self->gaps, gap) || append(&self->poller->gaps, gap) ? -1 : 0;
}

/* Whether the bytes are UTF-8. */
static int is_utf8(Span text)
{
    PyObject *decoded = PyUnicode_DecodeUTF8(text.begin, text.end - text.begin, NULL);
    if (!decoded)
        PyErr_Clear();
    Py_XDECREF(decoded);
    return decoded != NULL;
}

/* The chunk at p as one of those before the tokens, or with the first of them. Its length; 0 if it is neither,
 * -1 when it raised. */
static ssize_t take_preamble(Conn *self, const char *p, const char *end)
{
    Poller *poller = self->poller;
    const char *body;
    size_t size, length = whole_chunk(p, end, &body, &size);
    Span text = {NULL, NULL};
    if (!length)
        return 0;
    if (!self->opened && poller->preamble.size && match(&poller->preamble, body, body + size, &text) == body + size) {
        self->opened = 1;
        return (ssize_t)length;
    }
    if (match(&poller->first, body, body + size, &text) != body + size || !text.begin || !is_utf8(text))
        return 0;
    if (set_pattern(self, body, (size_t)(text.begin - body), text.end, (size_t)(body + size - text.end))
        || append(&poller->ttfts, self->read_ns - self->intended_ns))
        return -1;
    self->first_ns = self->last_ns = self->read_ns;
    self->opened = 1;
    self->place = TOKENS;
    return (ssize_t)length;
}

/* Takes what it can at p. Returns where begins what is for Python; NULL when it raised. */
static char *take_expected(Conn *self, char *const begin, const char *end)
{
    char *p = begin;
    if (self->place == HEAD) {
        Span arm = {NULL, NULL};
        const Template *head = &self->poller->head; /* empty when it was forgotten meanwhile */
        const char *body = head->size ? match(head, p, end, &arm) : NULL;
        if (body) {
            p += body - p;
            self->head_ns = self->read_ns;
            self->arm_size = arm.begin ? (size_t)(arm.end - arm.begin) : 0;
            if (self->arm_size > ARM_SIZE)
                self->arm_size = ARM_SIZE;
            if (self->arm_size)
                memcpy(self->arm, arm.begin, self->arm_size);
        }
        self->place = body ? PREAMBLE : ELSEWHERE;
    }
    while (self->place == PREAMBLE && p < end) {
        date(self, p, begin);
        ssize_t length = take_preamble(self, p, end);
        if (length < 0)
            return NULL;
        if (length == 0)
            return p;
        p += length;
    }
    size_t size;
    while (self->place == TOKENS && p < end && (size = token_chunk(self, p, end))) {
        date(self, p, begin);
        if (note(self, self->read_ns))
            return NULL;
        p += size;
    }
    return p;
}

/* An answer has ended, with what stands at p: it waits until Python takes several at once. One call for
 * each as it comes would find the caches filled with sockets, and cost several times as much. */
static int set_completed(Conn *self, const char *p, size_t size)
{
    PyObject *completed = Py_BuildValue(
        "(OLLLLNy#y#)", self->record, (long long)self->head_ns, (long long)self->first_ns,
        (long long)self->read_ns, (long long)self->last_ns, take(&self->gaps), p, (Py_ssize_t)size, self->arm,
        (Py_ssize_t)self->arm_size);
    if (keep(self->poller->completed, completed))
        return -1;
    finish(self);
    set_idle(self);
    return 0;
}

/* What one recv brought. */
int take_read(Conn *self, char *begin, const char *end, int64_t stamp_ns)
{
    self->exact = stamp_ns != 0;
    self->read_ns = arrival_ns(self, stamp_ns);
    char *p = begin;
    if (self->place != ELSEWHERE && !(p = take_expected(self, begin, end)))
        return -1;
    if (p == end)
        return 0;
    size_t size;
    int ends = self->head_ns && !self->handed && self->place == TOKENS && take_ending(p, end, &size);
    self->place = ELSEWHERE; /* until Python says that it stands at the boundary of a chunk again */
    set_in_native(self, 0);
    if (ends)
        return set_completed(self, p, size);
    self->handed = 1;
    return hand(self->poller, self->on_read, PyBytes_FromStringAndSize(p, end - p));
}

/* recv into the poller's buffer. *stamp_ns: when the last byte came by CLOCK_REALTIME; 0 where the kernel did not
 * say. It is asked, which costs a tenth more, for all but tokens, for a TTFT may hang on it, and for
 * tokens in a turn that may be late. */
static ssize_t receive(Conn *self, int64_t *stamp_ns)
{
    Poller *poller = self->poller;
    *stamp_ns = 0;
    if (self->place == TOKENS && poller->unsure == 0)
        return recv(self->fd, poller->buffer, READ_SIZE, MSG_DONTWAIT);
    union {
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
        struct cmsghdr alignment;
    } control;
    struct iovec into = {poller->buffer, READ_SIZE};
    struct msghdr message = {
        .msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(self->fd, &message, MSG_DONTWAIT);
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SO_TIMESTAMPNS) {
        struct timespec stamp;
        memcpy(&stamp, CMSG_DATA(header), sizeof stamp);
        *stamp_ns = in_ns(stamp);
    }
    return n;
}

/* Reads until nothing is left, for epoll reports each arrival once. Less than was asked for is all there is
 * (epoll(7)), but for an end or an error behind it, which events shows. */
int read_conn(Conn *self, uint32_t events)
{
    int ended = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    int64_t stamp_ns;
    ssize_t n;
    do {
        if (self->fd < 0)
            return 0;
        do
            n = receive(self, &stamp_ns);
        while (n < 0 && errno == EINTR);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n <= 0)
            return hand(self->poller, self->on_lost, PyLong_FromLong(n ? errno : 0));
        char *buffer = self->poller->buffer;
        if (self->tls ? take_records(self, (size_t)n, stamp_ns) : take_read(self, buffer, buffer + n, stamp_ns))
            return -1;
    } while (self->fd >= 0 && (ended || n == READ_SIZE));
    return 0;
}
