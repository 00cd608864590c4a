/* HTTP/1.1 as far as load clients speak it: the head of a request, and answers of a known length. */
#ifndef HTTP_H
#define HTTP_H

#include <strings.h>
#include <time.h>

#include "record.h"

/* What is read from a request's head. */
struct head {
    size_t length; /* of the body */
    int post, http11, close, chunked, expect, bad;
    const char *path, *id;
    size_t path_len, id_len;
};

static void read_head(char *at, const char *end, struct head *h)
{
    memset(h, 0, sizeof *h);
    char *line_end = memchr(at, '\r', (size_t)(end - at));
    char *path = memchr(at, ' ', (size_t)(line_end - at));
    char *version = path ? memchr(path + 1, ' ', (size_t)(line_end - path - 1)) : NULL;
    if (!version) {
        h->bad = 1;
        return;
    }
    h->post = path - at == 4 && memcmp(at, "POST", 4) == 0;
    h->http11 = line_end - version == 9 && memcmp(version + 1, "HTTP/1.1", 8) == 0;
    h->path = path + 1;
    h->path_len = (size_t)(version - path - 1);
    const char *query = memchr(h->path, '?', h->path_len);
    if (query) h->path_len = (size_t)(query - h->path);
    for (at = line_end + 2; at < end; at = line_end + 2) {
        line_end = memchr(at, '\r', (size_t)(end - at));
        char *colon = memchr(at, ':', (size_t)(line_end - at));
        if (!colon) continue;
        size_t name = (size_t)(colon - at);
        const char *value = colon + 1;
        while (value < line_end && (*value == ' ' || *value == '\t')) value++;
        size_t len = (size_t)(line_end - value);
        while (len && (value[len - 1] == ' ' || value[len - 1] == '\t')) len--;
        if (name == 14 && strncasecmp(at, "content-length", 14) == 0) h->length = strtoul(value, NULL, 10);
        if (name == 12 && strncasecmp(at, "x-request-id", 12) == 0) h->id = value, h->id_len = len;
        if (name == 10 && strncasecmp(at, "connection", 10) == 0)
            h->close = len == 5 && strncasecmp(value, "close", 5) == 0;
        if (name == 17 && strncasecmp(at, "transfer-encoding", 17) == 0) h->chunked = 1;
        if (name == 6 && strncasecmp(at, "expect", 6) == 0) h->expect = 1;
    }
}

static int path_is(const struct head *h, const char *path)
{
    return h->path_len == strlen(path) && memcmp(h->path, path, h->path_len) == 0;
}

/* A whole answer of a known length. close: says that the connection ends after it. */
static void put_answer(struct buf *out, int close, const char *status, const char *type, const struct buf *body)
{
    putf(out, "HTTP/1.1 %s\r\nserver: rvtop-mock\r\ncontent-type: %s\r\ncontent-length: %zu\r\n%s\r\n", status, type,
         body->len, close ? "connection: close\r\n" : "");
    put(out, body->p ? body->p : "", body->len);
}

static void put_error(struct buf *out, int close, const char *status, const char *type, const char *message)
{
    static struct buf body;
    body.len = 0;
    putf(&body, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":%d}}", message, type,
         atoi(status));
    put_answer(out, close, status, "application/json", &body);
}

static void put_models(struct buf *b)
{
    long created = (long)time(NULL);
    putz(b, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < model_count; i++)
        putf(b, "%s{\"id\":\"%s\",\"object\":\"model\",\"created\":%ld,\"owned_by\":\"vllm\",\"root\":\"%s\","
                "\"parent\":null,\"max_model_len\":131072,\"permission\":[]}",
             i ? "," : "", models[i].name, created, models[i].name);
    putz(b, "]}");
}

#endif
