/* Reads the few fields of a completion request's JSON body that decide the answer.
 *
 * One pass, no copy, no tree: a long prompt costs one memchr per string. Keys are compared as raw
 * bytes (nobody escapes "stream"), and only at the depth where they mean something, so a prompt that
 * quotes "max_tokens" changes nothing. Values that are not looked at are skipped by counting
 * brackets, not validated: the client under test is judged elsewhere.
 */
#ifndef BODY_H
#define BODY_H

#include <stdlib.h>
#include <string.h>

struct body {
    const char *model; /* raw bytes between the quotes, NULL when absent */
    size_t model_len;
    int stream, include_usage, continuous; /* 0 or 1 */
    long max_tokens;                       /* -1 when absent or null */
    long max_completion_tokens;            /* -1 when absent or null; wins over max_tokens */
};

struct scan {
    const char *p, *end;
};

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t')) s->p++;
}

/* At an opening quote: leaves p after the closing one. Returns 0 on an unterminated string. */
static int take_string(struct scan *s, const char **text, size_t *len)
{
    const char *from = ++s->p;
    while (s->p < s->end) {
        const char *quote = memchr(s->p, '"', (size_t)(s->end - s->p));
        if (!quote) return 0;
        size_t slashes = 0;
        while (quote - slashes > from && quote[-1 - (long)slashes] == '\\') slashes++;
        s->p = quote + 1;
        if (slashes % 2 == 0) {
            *text = from;
            *len = (size_t)(quote - from);
            return 1;
        }
    }
    return 0;
}

static int skip_value(struct scan *s)
{
    const char *text;
    size_t len;
    int depth = 0;
    skip_space(s);
    if (s->p >= s->end) return 0;
    do {
        char c = *s->p;
        if (c == '"') {
            if (!take_string(s, &text, &len)) return 0;
            if (depth == 0) return 1;
            continue;
        }
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') {
            if (depth == 0) return 1; /* the end of what holds us: an empty or bare value before it */
            if (--depth == 0) {
                s->p++;
                return 1;
            }
        }
        if (c == ',' && depth == 0) return 1;
        s->p++;
    } while (s->p < s->end);
    return depth == 0;
}

static int is_word(const struct scan *s, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(s->end - s->p) >= n && memcmp(s->p, word, n) == 0;
}

static int key_is(const char *key, size_t len, const char *name)
{
    return strlen(name) == len && memcmp(key, name, len) == 0;
}

/* A number, else -1 (null). The body is NUL-terminated by the caller, so strtol stops. */
static long take_number(const struct scan *s)
{
    if ((*s->p >= '0' && *s->p <= '9') || *s->p == '-') return strtol(s->p, NULL, 10);
    return -1;
}

/* Reads an object whose '{' is next. inner = 0: the request itself; 1: its stream_options. */
static int take_object(struct scan *s, struct body *b, int inner)
{
    const char *key, *text;
    size_t key_len, len;
    skip_space(s);
    if (s->p >= s->end || *s->p++ != '{') return 0;
    for (;;) {
        skip_space(s);
        if (s->p >= s->end) return 0;
        if (*s->p == '}') {
            s->p++;
            return 1;
        }
        if (*s->p == ',') {
            s->p++;
            continue;
        }
        if (*s->p != '"' || !take_string(s, &key, &key_len)) return 0;
        skip_space(s);
        if (s->p >= s->end || *s->p++ != ':') return 0;
        skip_space(s);
        if (s->p >= s->end) return 0;
        if (inner) {
            if (key_is(key, key_len, "include_usage")) b->include_usage = is_word(s, "true");
            if (key_is(key, key_len, "continuous_usage_stats")) b->continuous = is_word(s, "true");
        } else if (key_is(key, key_len, "stream_options") && *s->p == '{') {
            if (!take_object(s, b, 1)) return 0;
            continue;
        } else if (key_is(key, key_len, "model") && *s->p == '"') {
            if (!take_string(s, &text, &len)) return 0;
            b->model = text;
            b->model_len = len;
            continue;
        } else if (key_is(key, key_len, "stream")) {
            b->stream = is_word(s, "true");
        } else if (key_is(key, key_len, "max_tokens")) {
            b->max_tokens = take_number(s);
        } else if (key_is(key, key_len, "max_completion_tokens")) {
            b->max_completion_tokens = take_number(s);
        }
        if (!skip_value(s)) return 0;
    }
}

/* Fills b from len bytes at json (followed by a NUL). Returns 0 when that is no JSON object. */
static int read_body(const char *json, size_t len, struct body *b)
{
    struct scan s = {json, json + len};
    memset(b, 0, sizeof *b);
    b->max_tokens = b->max_completion_tokens = -1;
    return take_object(&s, b, 0);
}

#endif
