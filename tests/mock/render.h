/* The bytes of an answer, in the shape that vLLM 0.29's OpenAI server sends (its models dumped with
 * exclude_unset): a role chunk, one content chunk a token, the last with its finish reason, a usage
 * chunk when asked for, [DONE].
 */
#ifndef RENDER_H
#define RENDER_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FINGERPRINT "vllm-0.29.0-mock"
#define WORD_BYTES 6
#define WORD_COUNT 32

/* Every word has the same length in bytes, so that one chunk fits all (see put_plain). Half of them are
 * Korean: two syllables of three bytes. */
static const char WORDS[WORD_COUNT][WORD_BYTES + 1] = {
    " token", "질문", " first", "답변", " steps", "문서", " queue", "검색", " cache", "모델", " block",
    "서버",   " batch", "요청", " serve", "응답", " actor", "시간", " model", "처리", " layer", "지연",
    " split", "속도", " merge", "기억", " reads", "단어", " write", "문장", " clock", "규정",
};

struct buf {
    char *p;
    size_t len, cap;
};

static void reserve(struct buf *b, size_t more)
{
    if (b->len + more <= b->cap) return;
    size_t cap = b->cap ? b->cap : 512;
    while (cap < b->len + more) cap *= 2;
    b->p = realloc(b->p, cap);
    if (!b->p) {
        fputs("mock: out of memory\n", stderr);
        exit(1);
    }
    b->cap = cap;
}

static void put(struct buf *b, const char *bytes, size_t n)
{
    reserve(b, n);
    memcpy(b->p + b->len, bytes, n);
    b->len += n;
}

static void putz(struct buf *b, const char *text) { put(b, text, strlen(text)); }

static void putf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void putf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    reserve(b, (size_t)n + 1);
    va_start(args, format);
    vsnprintf(b->p + b->len, (size_t)n + 1, format, args);
    va_end(args);
    b->len += (size_t)n;
}

/* One answer under way. Times are CLOCK_MONOTONIC nanoseconds; 0 = not yet. */
struct stream {
    int model; /* index of the served model */
    int chat, sse, usage, continuous;
    int n, sent; /* tokens asked for, tokens written */
    long prompt_tokens, created;
    int64_t arrival, first, last, due;
    int64_t late_first, late_max, late_sum;
    int64_t clear_since; /* writes due before this were held up by the client, not by us */
    int blocked;         /* writes that the client's full window held up */
    char id[132];
};

/* The head that every chunk of this stream begins with, up to and including "choices":[ */
static void put_head(struct buf *b, const struct stream *s, const char *model)
{
    putf(b, "data: {\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%ld,\"model\":\"%s\",\"choices\":[",
         s->chat ? "chatcmpl" : "cmpl", s->id, s->chat ? "chat.completion.chunk" : "text_completion",
         s->created, model);
}

static void put_usage(struct buf *b, const struct stream *s, int completion, const char *details)
{
    putf(b, ",\"usage\":{\"prompt_tokens\":%ld,\"total_tokens\":%ld,\"completion_tokens\":%d%s}",
         s->prompt_tokens, s->prompt_tokens + completion, completion, details);
}

/* Frames an event as one chunk of the transfer encoding. */
static void put_chunk(struct buf *out, const struct buf *event)
{
    putf(out, "%zx\r\n", event->len);
    put(out, event->p, event->len);
    put(out, "\r\n", 2);
}

static void put_event(struct buf *out, struct buf *event)
{
    put(event, "}\n\n", 3);
    put_chunk(out, event);
    event->len = 0;
}

static struct buf event; /* scratch: an event without its frame */

/* One content event with the words of tokens [from, to). Returns the word's offset inside the event. */
static size_t put_content(const struct stream *s, const char *model, int from, int to)
{
    const char *details = s->chat ? ",\"completion_tokens_details\":null" : "";
    put_head(&event, s, model);
    putz(&event, s->chat ? "{\"index\":0,\"delta\":{\"content\":\"" : "{\"index\":0,\"text\":\"");
    size_t at = event.len;
    for (int i = from; i < to; i++) put(&event, WORDS[i % WORD_COUNT], WORD_BYTES);
    putz(&event, s->chat ? "\"},\"logprobs\":null,\"finish_reason\":" : "\",\"logprobs\":null,\"finish_reason\":");
    putz(&event, to == s->n ? "\"length\"" : "null");
    if (to == s->n || !s->chat) putz(&event, ",\"stop_reason\":null");
    putz(&event, s->chat ? ",\"token_ids\":null}]" : ",\"prompt_token_ids\":null,\"token_ids\":null}]");
    if (s->continuous) put_usage(&event, s, to, details);
    if (to == s->n && !s->usage) putz(&event, ",\"system_fingerprint\":\"" FINGERPRINT "\"");
    return at;
}

/* The chunk of a token that is neither first nor last and carries no usage: all of these differ in six
 * bytes only, so each stream keeps one (framed) and stamps the word into it. */
struct stamp {
    struct buf chunk; /* empty until the stream's second token */
    size_t word_at;
};

static void put_plain(struct buf *out, struct stamp *stamp, const struct stream *s, const char *model, int token)
{
    if (stamp->chunk.len == 0) {
        size_t word = put_content(s, model, token, token + 1), tail = event.len - word;
        put_event(&stamp->chunk, &event);
        stamp->word_at = stamp->chunk.len - tail - strlen("}\n\n\r\n");
    }
    memcpy(stamp->chunk.p + stamp->word_at, WORDS[token % WORD_COUNT], WORD_BYTES);
    put(out, stamp->chunk.p, stamp->chunk.len);
}

/* Renders tokens [s->sent, to) of a stream into out, join of them to an event. */
static void render_tokens(struct buf *out, struct stamp *stamp, struct stream *s, const char *model, int to, int join)
{
    event.len = 0;
    if (s->sent == 0 && s->chat) {
        put_head(&event, s, model);
        putz(&event, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                     "\"finish_reason\":null}]");
        if (s->continuous) put_usage(&event, s, 0, ",\"completion_tokens_details\":null");
        putz(&event, ",\"prompt_token_ids\":null,\"prompt_text\":null");
        put_event(out, &event);
    }
    for (int at = s->sent; at < to;) {
        int end = at == 0 ? 1 : at + join;
        if (end > to) end = to;
        if (end == at + 1 && end < s->n && !s->continuous) {
            put_plain(out, stamp, s, model, at);
        } else {
            put_content(s, model, at, end);
            put_event(out, &event);
        }
        at = end;
    }
    if (to < s->n) return;
    if (s->usage) {
        put_head(&event, s, model);
        putz(&event, "]");
        put_usage(&event, s, s->n, "");
        putz(&event, ",\"system_fingerprint\":\"" FINGERPRINT "\"");
        put_event(out, &event);
    }
    putz(&event, "data: [DONE]\n\n");
    put_chunk(out, &event);
    putz(out, "0\r\n\r\n");
}

/* The whole answer as one JSON document, for a request that did not ask to stream. */
static void render_whole(struct buf *body, const struct stream *s, const char *model)
{
    putf(body, "{\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%ld,\"model\":\"%s\",\"choices\":[{\"index\":0,",
         s->chat ? "chatcmpl" : "cmpl", s->id, s->chat ? "chat.completion" : "text_completion", s->created, model);
    putz(body, s->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\"" : "\"text\":\"");
    for (int i = 0; i < s->n; i++) put(body, WORDS[i % WORD_COUNT], WORD_BYTES);
    putz(body, s->chat ? "\",\"refusal\":null,\"annotations\":null,\"audio\":null,\"function_call\":null,"
                         "\"reasoning\":null},\"logprobs\":null"
                       : "\",\"logprobs\":null");
    putz(body, ",\"finish_reason\":\"length\",\"stop_reason\":null,\"token_ids\":null}],"
               "\"system_fingerprint\":\"" FINGERPRINT "\"");
    put_usage(body, s, s->n, ",\"prompt_tokens_details\":null,\"completion_tokens_details\":null");
    put(body, "}", 1);
}

#endif
