/* What happened, twice: the log (one line a request, the truth that clients are checked against) and
 * the counters behind /metrics, under vLLM's names and with vLLM's bucket edges.
 */
#ifndef RECORD_H
#define RECORD_H

#include "render.h"

#include <stddef.h>

#define LOG_HEAD \
    "id\tarrival_ns\tfirst_ns\tlast_ns\ttokens\tasked\tlate_first_ns\tlate_max_ns\tlate_sum_ns\tblocked\tend\n"

/* Lines stay in memory, in blocks that are never moved, until somebody asks: a write to a disk in the
 * middle of a run would hold up tokens. */
#define LOG_BLOCK (1u << 20)
struct block {
    struct block *next;
    size_t len;
    char text[LOG_BLOCK];
};
static struct block *log_first, *log_last;
static size_t log_bytes;

/* end: "done", "cut" (the client went away) or "open" (under way when the server ended) */
static void log_row(const struct stream *s, const char *end)
{
    if (!log_last || LOG_BLOCK - log_last->len < 512) {
        struct block *b = malloc(sizeof *b);
        if (!b) {
            fputs("mock: out of memory\n", stderr);
            exit(1);
        }
        b->next = NULL;
        b->len = 0;
        if (log_last) log_last->next = b;
        else log_first = b;
        log_last = b;
    }
    int n = snprintf(log_last->text + log_last->len, 512, "%s\t%lld\t%lld\t%lld\t%d\t%d\t%lld\t%lld\t%lld\t%d\t%s\n",
                     s->id, (long long)s->arrival, (long long)s->first, (long long)s->last, s->sent, s->n,
                     (long long)s->late_first, (long long)s->late_max, (long long)s->late_sum, s->blocked, end);
    log_last->len += (size_t)n;
    log_bytes += (size_t)n;
}

static void put_log(struct buf *b)
{
    reserve(b, log_bytes + sizeof LOG_HEAD);
    putz(b, LOG_HEAD);
    for (struct block *at = log_first; at; at = at->next) put(b, at->text, at->len);
}

static void write_log(FILE *file)
{
    fputs(LOG_HEAD, file);
    for (struct block *at = log_first; at; at = at->next) fwrite(at->text, 1, at->len, file);
    fflush(file);
}

struct histogram {
    const char *name;
    int n;
    double edges[24];
    long long counts[25], count;
    double sum;
};

static void observe(struct histogram *h, int64_t ns)
{
    double seconds = (double)ns / 1e9;
    int i = 0;
    while (i < h->n && seconds > h->edges[i]) i++;
    h->counts[i]++;
    h->count++;
    h->sum += seconds;
}

#define MAX_MODELS 16
struct model {
    char name[128];
    int running;
    long long prompt_tokens, generation_tokens, done, cut, live_tokens;
    struct histogram ttft, itl, tpot, e2e;
};
static struct model models[MAX_MODELS];
static int model_count;

#define TOKEN_EDGES {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}

static void add_model(const char *name)
{
    if (model_count == MAX_MODELS || strlen(name) >= sizeof models[0].name || strpbrk(name, "\"\\\n")) {
        fprintf(stderr, "mock: --model %s: at most %d models, plain names below 128 bytes\n", name, MAX_MODELS);
        exit(2);
    }
    struct model *m = &models[model_count++];
    *m = (struct model){
        .ttft = {"vllm:time_to_first_token_seconds", 22,
                 {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                  1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}, {0}, 0, 0},
        .itl = {"vllm:inter_token_latency_seconds", 19, TOKEN_EDGES, {0}, 0, 0},
        .tpot = {"vllm:request_time_per_output_token_seconds", 19, TOKEN_EDGES, {0}, 0, 0},
        .e2e = {"vllm:e2e_request_latency_seconds", 21,
                {0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680},
                {0}, 0, 0},
    };
    strcpy(m->name, name);
}

static void put_type(struct buf *b, const char *name, const char *type) { putf(b, "# TYPE %s %s\n", name, type); }

static void put_value(struct buf *b, const char *name, const char *extra, double (*of)(struct model *))
{
    for (int i = 0; i < model_count; i++)
        putf(b, "%s{engine=\"0\",%smodel_name=\"%s\"} %.17g\n", name, extra, models[i].name, of(&models[i]));
}

/* The shortest decimal that reads back the same, with a point, as Python prints it. */
static void put_edge(char *text, size_t size, double edge)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, edge);
        if (strtod(text, NULL) == edge) break;
    }
    if (strchr(text, 'e')) snprintf(text, size, "%.0f", edge);
    if (!strchr(text, '.')) strcat(text, ".0");
}

static void put_histogram(struct buf *b, size_t offset)
{
    put_type(b, ((struct histogram *)((char *)&models[0] + offset))->name, "histogram");
    for (int i = 0; i < model_count; i++) {
        const struct histogram *h = (struct histogram *)((char *)&models[i] + offset);
        long long sum = 0;
        for (int k = 0; k <= h->n; k++) {
            char edge[32] = "+Inf";
            if (k < h->n) put_edge(edge, sizeof edge, h->edges[k]);
            sum += h->counts[k];
            putf(b, "%s_bucket{engine=\"0\",le=\"%s\",model_name=\"%s\"} %lld\n", h->name, edge, models[i].name, sum);
        }
        putf(b, "%s_count{engine=\"0\",model_name=\"%s\"} %lld\n", h->name, models[i].name, h->count);
        putf(b, "%s_sum{engine=\"0\",model_name=\"%s\"} %.17g\n", h->name, models[i].name, h->sum);
    }
}

static double kv_tokens = 1e6; /* what the pretended KV cache holds */
static double of_running(struct model *m) { return m->running; }
static double of_nothing(struct model *m) { (void)m; return 0; } /* it never queues and never preempts */
static double of_kv(struct model *m)
{
    double share = (double)m->live_tokens / kv_tokens;
    return share < 1 ? share : 1;
}
static double of_prompt(struct model *m) { return (double)m->prompt_tokens; }
static double of_generation(struct model *m) { return (double)m->generation_tokens; }
static double of_done(struct model *m) { return (double)m->done; }
static double of_cut(struct model *m) { return (double)m->cut; }

static void put_metrics(struct buf *b)
{
    static const struct {
        const char *name, *type, *extra;
        double (*of)(struct model *);
    } values[] = {
        {"vllm:num_requests_running", "gauge", "", of_running},
        {"vllm:num_requests_waiting", "gauge", "", of_nothing},
        {"vllm:kv_cache_usage_perc", "gauge", "", of_kv},
        {"vllm:num_preemptions_total", "counter", "", of_nothing},
        {"vllm:prompt_tokens_total", "counter", "", of_prompt},
        {"vllm:generation_tokens_total", "counter", "", of_generation},
        {"vllm:request_success_total", "counter", "finished_reason=\"length\",", of_done},
        {"vllm:request_success_total", NULL, "finished_reason=\"abort\",", of_cut},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (values[i].type) put_type(b, values[i].name, values[i].type);
        put_value(b, values[i].name, values[i].extra, values[i].of);
    }
    put_histogram(b, offsetof(struct model, ttft));
    put_histogram(b, offsetof(struct model, itl));
    put_histogram(b, offsetof(struct model, tpot));
    put_histogram(b, offsetof(struct model, e2e));
}

#endif
