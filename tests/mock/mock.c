/* A fake vLLM: one thread, one epoll loop, a token to every stream at its own time.
 *
 * Benchmarks hold clients against this server's log, so it must be faster and truer than any of them:
 * every token has an absolute deadline (arrival + ttft + i * step, nanoseconds, CLOCK_MONOTONIC, which
 * is also Python's perf_counter), kept in a heap; a token costs six bytes of memcpy and one send(). A
 * late wake-up never moves the deadlines after it, and how late each write was is in the log, so a busy
 * machine is not mistaken for a slow client. Usage: tests/mock/fast.py or `mock --help`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "body.h"
#include "http.h"
#include "timers.h"

#define HEAD_LIMIT (64u << 10)
#define BODY_LIMIT (64u << 20)
#define SENDS_PER_TURN 32 /* tokens between two looks at the sockets: bounds how late an arrival is seen */
#define MAX_TOKENS 10000000

struct conn {
    int fd;
    uint32_t gen;           /* which stream is on: 0 none. Timers of an older one are void */
    int blocked;            /* the client's window is full: EPOLLOUT goes on */
    int close_after;        /* no keep-alive */
    struct buf in, out;     /* in: unread request bytes. out: the answer being written */
    size_t need, out_off;   /* bytes of `in` that make a request, 0 = head not seen whole; bytes of out written */
    struct stream s;
    struct stamp stamp; /* of this stream */
};

static struct {
    int64_t ttft, step, tick;
    int tokens, merge, join;
} opt = {50000000, 10000000, 0, 64, 1, 1};

static struct conn **conns; /* by descriptor */
static int max_fd, epoll_fd, listen_fd, timer_fd, listening, running;
static uint32_t last_gen;
static uint64_t next_id;
static int64_t started_ns;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "mock: %s: %s\n", what, strerror(errno));
    exit(4);
}

static void watch(int fd, int op, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll_fd, op, fd, &e) < 0 && errno != ENOENT) die("epoll_ctl");
}

/* ---- connections ---- */

static void end_stream(struct conn *c, const char *end)
{
    struct stream *s = &c->s;
    struct model *m = &models[s->model];
    log_row(s, end);
    m->live_tokens -= s->prompt_tokens + s->sent;
    m->running--;
    running--;
    if (strcmp(end, "done") == 0) {
        m->done++;
        observe(&m->e2e, s->last - s->arrival);
        if (s->n > 1) observe(&m->tpot, (s->last - s->first) / (s->n - 1));
    } else {
        m->cut++;
    }
    c->gen = 0;
}

static void drop(struct conn *c)
{
    if (c->gen) end_stream(c, "cut");
    conns[c->fd] = NULL;
    close(c->fd);
    free(c->in.p);
    free(c->out.p);
    free(c->stamp.chunk.p);
    free(c);
    if (!listening) { /* a descriptor is free again */
        watch(listen_fd, EPOLL_CTL_MOD, EPOLLIN);
        listening = 1;
    }
}

/* Writes what is left of c->out. 1: all of it, 0: the window is full (EPOLLOUT is on), -1: dropped. */
static int flush(struct conn *c)
{
    while (c->out_off < c->out.len) {
        ssize_t n = send(c->fd, c->out.p + c->out_off, c->out.len - c->out_off, MSG_NOSIGNAL);
        if (n >= 0) {
            c->out_off += (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!c->blocked) watch(c->fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            c->blocked = 1;
            return 0;
        } else if (errno != EINTR) {
            drop(c);
            return -1;
        }
    }
    return 1;
}

static int64_t deadline(const struct stream *s, int token)
{
    int64_t due = s->arrival + opt.ttft + (int64_t)token * opt.step;
    if (opt.tick) due = started_ns + (due - started_ns + opt.tick - 1) / opt.tick * opt.tick;
    return due;
}

/* The end of the group of tokens that is written together, given its first. The first token of an
 * answer always goes alone, so that TTFT means the same under every grouping. */
static int group_end(const struct stream *s)
{
    if (!s->sse) return s->n;
    int64_t end = s->sent == 0 ? 1 : (int64_t)s->sent + (int64_t)opt.merge * opt.join;
    return end < s->n ? (int)end : s->n;
}

static int next_request(struct conn *c);

/* After a whole write of an answer's part: sets the next timer, or ends the answer. 0: conn is gone. */
static int go_on(struct conn *c)
{
    if (c->gen) {
        struct stream *s = &c->s;
        if (s->sent < s->n) {
            s->due = deadline(s, group_end(s) - 1);
            timer_push(s->due, c->fd, c->gen);
            return 1;
        }
        end_stream(c, "done");
    }
    if (c->close_after) {
        drop(c);
        return 0;
    }
    return 1;
}

/* Writes the group of tokens that is due. */
static void write_tokens(struct conn *c)
{
    struct stream *s = &c->s;
    struct model *m = &models[s->model];
    int from = s->sent, to = group_end(s);
    c->out.len = c->out_off = 0;
    if (s->sse) {
        render_tokens(&c->out, &c->stamp, s, m->name, to, opt.join);
    } else {
        static struct buf whole;
        whole.len = 0;
        render_whole(&whole, s, m->name);
        put_answer(&c->out, c->close_after, "200 OK", "application/json", &whole);
    }
    int64_t now = now_ns(), before = s->last;
    int done = flush(c);
    if (done < 0) return;
    s->sent = to;
    s->last = now;
    if (from == 0) s->first = now;
    if (s->due >= s->clear_since) {
        int64_t late = now - s->due;
        s->late_sum += late * (to - from);
        if (late > s->late_max) s->late_max = late;
        if (from == 0) s->late_first = late;
    }
    m->generation_tokens += to - from;
    m->live_tokens += to - from;
    if (from == 0) observe(&m->ttft, now - s->arrival);
    else observe(&m->itl, now - before);
    if (done == 0) s->blocked++;
    if (done > 0 && go_on(c) && !c->gen) next_request(c);
}

/* The client's window opened: the rest of the last write, then whatever came due meanwhile. */
static void unblock(struct conn *c)
{
    if (!c->blocked || flush(c) <= 0) return;
    c->blocked = 0;
    watch(c->fd, EPOLL_CTL_MOD, EPOLLIN);
    if (c->gen) {
        struct stream *s = &c->s;
        s->clear_since = now_ns();
        if (s->sent && s->first == s->last) s->first = s->clear_since;
        if (s->sent) s->last = s->clear_since;
    }
    if (go_on(c) && !c->gen) next_request(c);
}

/* ---- requests ---- */

static void start_stream(struct conn *c, const struct head *h, const char *json, int64_t arrival)
{
    struct stream *s = &c->s;
    struct body b;
    memset(s, 0, sizeof *s);
    s->chat = path_is(h, "/v1/chat/completions");
    if (!read_body(json, h->length, &b)) {
        put_error(&c->out, c->close_after, "400 Bad Request", "BadRequestError", "the body is not a JSON object");
        return;
    }
    if (b.model) {
        while (s->model < model_count && !key_is(b.model, b.model_len, models[s->model].name)) s->model++;
        if (s->model == model_count) {
            put_error(&c->out, c->close_after, "404 Not Found", "NotFoundError", "The model does not exist.");
            return;
        }
    }
    long n = b.max_completion_tokens != -1 ? b.max_completion_tokens : b.max_tokens != -1 ? b.max_tokens : opt.tokens;
    if (n < 1 || n > MAX_TOKENS) {
        put_error(&c->out, c->close_after, "400 Bad Request", "BadRequestError", "max_tokens must be from 1 to 10000000");
        return;
    }
    s->n = (int)n;
    s->sse = b.stream;
    s->usage = b.include_usage;
    s->continuous = b.include_usage && b.continuous;
    s->prompt_tokens = (long)(h->length + 3) / 4; /* about four bytes of the body to a token */
    s->created = (long)time(NULL);
    s->arrival = arrival;
    if (h->id_len) {
        size_t len = h->id_len < 128 ? h->id_len : 128;
        for (size_t i = 0; i < len; i++) {
            unsigned char ch = (unsigned char)h->id[i];
            s->id[i] = isalnum(ch) || (ch && strchr("-_.:/", ch)) ? (char)ch : '_';
        }
    } else {
        snprintf(s->id, sizeof s->id, "%016llx", (unsigned long long)++next_id);
    }
    c->stamp.chunk.len = 0;
    c->gen = ++last_gen ? last_gen : ++last_gen;
    running++;
    models[s->model].running++;
    models[s->model].prompt_tokens += s->prompt_tokens;
    models[s->model].live_tokens += s->prompt_tokens;
    if (s->sse) /* vLLM's headers go out at once, long before the first token */
        putf(&c->out, "HTTP/1.1 200 OK\r\nserver: rvtop-mock\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                      "%stransfer-encoding: chunked\r\n\r\n", c->close_after ? "connection: close\r\n" : "");
}

/* What a request cannot be answered for at all; the connection ends after it. NULL: nothing. */
static const char *refusal(const struct head *h, const char **why)
{
    *why = "the head is over 64 KiB";
    if (!h->path_len && !h->bad) return "431 Request Header Fields Too Large";
    *why = "not an HTTP request";
    if (h->bad) return "400 Bad Request";
    *why = "this server speaks HTTP/1.1";
    if (!h->http11) return "505 HTTP Version Not Supported";
    *why = "send the body with a content-length";
    if (h->chunked) return "411 Length Required";
    *why = "the body is over 64 MiB";
    return h->length > BODY_LIMIT ? "413 Content Too Large" : NULL;
}

/* Begins the answer to a whole request in c->out. */
static void route(struct conn *c, const struct head *h, const char *json, int64_t arrival)
{
    static const char text[] = "text/plain; version=0.0.4; charset=utf-8";
    static const char rows[] = "text/tab-separated-values; charset=utf-8";
    static struct buf body;
    struct buf *out = &c->out;
    int close = c->close_after = h->close;
    body.len = 0;
    if (path_is(h, "/v1/chat/completions") || path_is(h, "/v1/completions")) {
        if (h->post) start_stream(c, h, json, arrival);
        else put_error(out, close, "405 Method Not Allowed", "BadRequestError", "Method Not Allowed");
    } else if (path_is(h, "/health")) {
        put_answer(out, close, "200 OK", text, &body);
    } else if (path_is(h, "/v1/models")) {
        put_models(&body);
        put_answer(out, close, "200 OK", "application/json", &body);
    } else if (path_is(h, "/metrics")) {
        put_metrics(&body);
        put_answer(out, close, "200 OK", text, &body);
    } else if (path_is(h, "/log")) {
        put_log(&body);
        put_answer(out, close, "200 OK", rows, &body);
    } else {
        put_error(out, close, "404 Not Found", "NotFoundError", "Not Found");
    }
}

/* Handles the request at the start of c->in, and any that were sent behind it, as far as they are
 * whole. Returns 0 when the connection is gone. */
static int next_request(struct conn *c)
{
    while (!c->gen && !c->blocked && c->in.len) {
        if (c->in.len < c->need) return 1;
        char *head_end = memmem(c->in.p, c->in.len, "\r\n\r\n", 4);
        if (!head_end && c->in.len < HEAD_LIMIT) return 1;
        struct head h = {0};
        const char *why;
        if (head_end) read_head(c->in.p, head_end + 2, &h);
        const char *status = refusal(&h, &why);
        c->out.len = c->out_off = 0;
        if (status) {
            c->close_after = 1;
            c->in.len = 0;
            put_error(&c->out, 1, status, "BadRequestError", why);
        } else {
            size_t whole = (size_t)(head_end + 4 - c->in.p) + h.length;
            if (c->in.len < whole) {
                if (h.expect && !c->need) send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
                c->need = whole;
                return 1;
            }
            int64_t arrival = now_ns();
            char *end = c->in.p + whole, kept = *end; /* `in` always has a byte to spare */
            *end = 0;
            route(c, &h, head_end + 4, arrival);
            *end = kept;
            memmove(c->in.p, end, c->in.len - whole);
            c->in.len -= whole;
            c->need = 0;
        }
        int done = flush(c);
        if (done <= 0) return done == 0; /* 0: unblock() goes on from here */
        if (!go_on(c)) return 0;
    }
    return 1;
}

static void read_more(struct conn *c)
{
    size_t room = c->need > c->in.len ? c->need - c->in.len : 0;
    reserve(&c->in, (room > 4096 ? room : 4096) + 1);
    ssize_t n = recv(c->fd, c->in.p + c->in.len, c->in.cap - c->in.len - 1, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    /* A client that hangs up, or talks on and on into an answer, has given up on it. */
    if (n <= 0 || (c->gen && c->in.len > BODY_LIMIT)) {
        drop(c);
        return;
    }
    c->in.len += (size_t)n;
    next_request(c);
}

static void accept_all(void)
{
    for (int i = 0; i < 256; i++) {
        int one = 1, fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE) { /* or the loop would spin on a connection it cannot take */
                watch(listen_fd, EPOLL_CTL_MOD, 0);
                listening = 0;
                fprintf(stderr, "mock: out of descriptors at %d\n", max_fd);
            }
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct conn *c = calloc(1, sizeof *c);
        if (!c) die("memory");
        c->fd = fd;
        conns[fd] = c;
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

/* ---- start and end ---- */

static int listen_on(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *found;
    int fault = getaddrinfo(host, port, &hints, &found), one = 1;
    if (fault) {
        fprintf(stderr, "mock: --host %s --port %s: %s\n", host, port, gai_strerror(fault));
        exit(2);
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* Accepted sockets inherit this. BBR, where it is the default, paces writes and would hold tokens back. */
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    if (bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, 65535) < 0) {
        fprintf(stderr, "mock: port %s of %s: %s\n", port, host, strerror(errno));
        exit(2);
    }
    freeaddrinfo(found);
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    getsockname(fd, (struct sockaddr *)&bound, &len);
    printf("%d\n", ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                    : ((struct sockaddr_in *)&bound)->sin_port));
    fflush(stdout);
    return fd;
}

static double number(const char *name, const char *text, double least)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least)) {
        fprintf(stderr, "mock: --%s %s: want a number of at least %g\n", name, text, least);
        exit(2);
    }
    return value;
}

static const char USAGE[] =
    "mock [--host 127.0.0.1] [--port 0] [--ttft-ms 50] [--step-ms 10] [--tokens 64] [--model NAME]...\n"
    "     [--merge 1] [--join 1] [--tick-ms 0] [--kv-tokens 1000000] [--log FILE|-]\n"
    "Prints its port as the first line. Ends on SIGTERM or when a stdin that is a pipe ends.\n"
    "--tokens: of a request that names no max_tokens. --merge: events to a write. --join: tokens to an event.\n"
    "--tick-ms: writes only at multiples of this from the start, as an engine that steps all at once.\n";

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"host", 1, 0, 'h'},    {"port", 1, 0, 'p'},  {"ttft-ms", 1, 0, 't'}, {"step-ms", 1, 0, 's'},
        {"tokens", 1, 0, 'n'},  {"model", 1, 0, 'm'}, {"merge", 1, 0, 'g'},   {"join", 1, 0, 'j'},
        {"tick-ms", 1, 0, 'k'}, {"log", 1, 0, 'l'},   {"kv-tokens", 1, 0, 'v'}, {"help", 0, 0, '?'},
        {0, 0, 0, 0}};
    const char *host = "127.0.0.1", *port = "0", *log_path = NULL;
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (o == 'h') host = optarg;
        else if (o == 'p') port = optarg;
        else if (o == 't') opt.ttft = (int64_t)(number("ttft-ms", optarg, 0) * 1e6);
        else if (o == 's') opt.step = (int64_t)(number("step-ms", optarg, 0) * 1e6);
        else if (o == 'k') opt.tick = (int64_t)(number("tick-ms", optarg, 0) * 1e6);
        else if (o == 'n') opt.tokens = (int)number("tokens", optarg, 1);
        else if (o == 'g') opt.merge = (int)number("merge", optarg, 1);
        else if (o == 'j') opt.join = (int)number("join", optarg, 1);
        else if (o == 'v') kv_tokens = number("kv-tokens", optarg, 1);
        else if (o == 'm') add_model(optarg);
        else if (o == 'l') log_path = optarg;
        else {
            fputs(USAGE, stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fputs(USAGE, stderr);
        return 2;
    }
    if (!model_count) add_model("mock");

    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max == RLIM_INFINITY || files.rlim_max > 1 << 20) files.rlim_max = 1 << 20;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    max_fd = (int)files.rlim_cur;
    conns = calloc((size_t)max_fd, sizeof *conns);
    if (!conns) die("memory");

    sigset_t quit;
    sigemptyset(&quit);
    sigaddset(&quit, SIGTERM);
    sigaddset(&quit, SIGINT);
    sigprocmask(SIG_BLOCK, &quit, NULL);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int signal_fd = signalfd(-1, &quit, SFD_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll_fd < 0 || signal_fd < 0 || timer_fd < 0) die("epoll, signalfd or timerfd");
    watch(signal_fd, EPOLL_CTL_ADD, EPOLLIN);
    watch(timer_fd, EPOLL_CTL_ADD, EPOLLIN | EPOLLET); /* edge: setting it again is all the reset it needs */
    struct epoll_event lease = {.events = EPOLLIN, .data.fd = 0};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &lease) < 0 && errno != EPERM && errno != EBADF) die("stdin");
    started_ns = now_ns();
    listen_fd = listen_on(host, port);
    watch(listen_fd, EPOLL_CTL_ADD, EPOLLIN);
    listening = 1;

    int64_t armed = 0;
    for (int ending = 0; !ending;) {
        int64_t now = now_ns();
        for (int i = 0; i < SENDS_PER_TURN && heap_len && heap[0].due <= now; i++) {
            struct timer t = timer_pop();
            if (conns[t.fd] && conns[t.fd]->gen == t.gen) write_tokens(conns[t.fd]);
        }
        int busy = heap_len && heap[0].due <= now_ns();
        if (!busy && heap_len && heap[0].due != armed) {
            armed = heap[0].due;
            struct itimerspec at = {.it_value = {armed / 1000000000, armed % 1000000000}};
            timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
        }
        struct epoll_event events[512];
        int n = epoll_wait(epoll_fd, events, 512, busy ? 0 : -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            char waste[4096];
            if (fd == listen_fd) accept_all();
            else if (fd == signal_fd) ending = 1;
            else if (fd == 0) ending = ending || read(0, waste, sizeof waste) == 0;
            else if (fd != timer_fd && conns[fd]) {
                if (events[i].events & EPOLLOUT) unblock(conns[fd]);
                if (conns[fd] && events[i].events & ~(uint32_t)EPOLLOUT) read_more(conns[fd]);
            }
        }
    }
    for (int fd = 0; fd < max_fd; fd++)
        if (conns[fd] && conns[fd]->gen) log_row(&conns[fd]->s, "open");
    if (log_path) {
        FILE *file = strcmp(log_path, "-") == 0 ? stdout : fopen(log_path, "w");
        if (!file) die(log_path);
        write_log(file);
    }
    return 0;
}
