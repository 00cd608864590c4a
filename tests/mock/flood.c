/* Loads the mock to see what it can carry: keeps S streams open over keep-alive connections, each
 * asking again as soon as its answer ends, and throws the bytes away. Prints "answers bytes" once the
 * time is over. usage: flood PORT STREAMS TOKENS SECONDS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fputs("usage: flood PORT STREAMS TOKENS SECONDS\n", stderr);
        return 2;
    }
    int streams = atoi(argv[2]);
    double until = now_s() + atof(argv[4]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    char body[256], request[512];
    int body_len = snprintf(body, sizeof body,
                            "{\"model\":\"mock\",\"stream\":true,\"max_tokens\":%d,"
                            "\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}", atoi(argv[3]));
    int len = snprintf(request, sizeof request,
                       "POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\ncontent-type: application/json\r\n"
                       "content-length: %d\r\n\r\n%s", body_len, body);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int epoll_fd = epoll_create1(0), one = 1;
    for (int i = 0; i < streams; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0) die("epoll_ctl");
        if (send(fd, request, (size_t)len, MSG_NOSIGNAL) != len) die("send");
    }
    long long answers = 0, bytes = 0;
    static char waste[1 << 16];
    while (now_s() < until) {
        /* Looks every 2 ms instead of sleeping on the sockets, or most of what is measured is the price
         * of waking this process up. */
        static struct epoll_event events[4096];
        usleep(2000);
        int n = epoll_wait(epoll_fd, events, 4096, 0);
        for (int i = 0; i < n; i++) {
            ssize_t got = recv(events[i].data.fd, waste, sizeof waste, MSG_DONTWAIT);
            if (got == 0) die("the server hung up");
            if (got < 0) continue;
            bytes += got;
            if (got >= 5 && memcmp(waste + got - 5, "0\r\n\r\n", 5) == 0) {
                answers++;
                if (send(events[i].data.fd, request, (size_t)len, MSG_NOSIGNAL) != len) die("send");
            }
        }
    }
    printf("%lld %lld\n", answers, bytes);
    return 0;
}
