/* load: an HTTP/1.1 load generator for the bench, one thread, one epoll.
 *
 * Coordinated omission. A client that waits for an answer before it sends the next request slows
 * down together with the server: while the server stalls for a second, the thousand requests that
 * users would have sent are never sent, and one slow sample stands for all of them. Gil Tene named
 * this, and his wrk2 shows the remedy used here: requests have a schedule that knows nothing of the
 * answers, and a request's latency counts from when it was due, so that waiting for a free
 * connection is part of it. The schedule is the queue: what is due and unsent waits there.
 *
 *   load reads  --host H --port P --rate R --seconds S --connections C --paths FILE
 *   load closed --host H --port P          --seconds S --connections C --paths FILE
 *   load events --host H --port P --rate R --seconds S --connections C --bodies FILE
 *               [--probe-every N --probe-path '/v1/recommendations?user_id=%s&count=10' [--timeline FILE]]
 *   any: [--warmup S] [--header 'K: V']... [--timeout-ms 10000]   reads, events: [--poisson] [--seed N]
 *   events: [--post-path /v1/events] [--max-wait-ms 1000] [--give-up-ms 10000]
 *
 * --paths has a request target a line, --bodies "user_id TAB json" a line; both are used round robin,
 * so give as many bodies as POSTs where the server tells repeated event ids apart.
 * Every N-th POST is a probe: its 202 names a position, and the same connection asks for the user's
 * recommendations `after` it until they include it. FRESHNESS is the time from the POST's first byte
 * written to the last byte of that answer. --timeline writes a line for each of them: the position, and when
 * the first byte was written, the 202 was read and the answer was, in ns of CLOCK_MONOTONIC.
 *
 * One JSON object on stdout, about what was due after the warm-up. Times are in milliseconds,
 * percentiles exact (nearest rank over all samples) and of 2xx answers only: a fast refusal must not
 * flatter. `requests_per_s` is 2xx answers within the window. `queued` counts requests that found every
 * connection busy, `behind_ms_max` how late this program sent although one was free: a large one means
 * that the generator, not the server, was measured. It holds that
 *   scheduled + probes = completed + freshness_ms.n + sum of errors.
 * Exit status 0 when it ran, 2 on bad arguments. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HEAD = 64 << 10, MAX_ANSWER = 64 << 20, MAX_POSITION = 64, BATCH = 256 };
static const int64_t MS = 1000000, SECOND = 1000000000, SWEEP = 50000000;

enum mode { READS = 1, EVENTS = 2, CLOSED = 4, OPEN = READS | EVENTS, ANY = 7 };
enum error { STATUS_4XX, STATUS_5XX, CONNECT, TIMEOUT, MALFORMED, ERRORS };
enum kind { GET, POST, PROBE, CHECK };      /* PROBE: a POST to be followed; CHECK: the GETs after it */
enum state { FREE, CONNECTING, BUSY, RESTING };

struct samples { int64_t *ns; size_t n, cap; };
struct line { const char *user, *text; size_t user_len, text_len; };

struct conn {
    int fd;                                 /* -1: closed, opened again by the next request */
    uint32_t watched;
    enum state state;
    enum kind kind;
    const struct line *line;
    bool counted, wrote, again;             /* due after the warm-up; a byte went out; sent twice */
    int64_t due, attempt_at, first_at;      /* first_at: just before the first byte was written */
    int64_t taken_at;                       /* a probe: when its 202 was read */
    char *out, *in;
    size_t out_len, off, in_len, in_cap;
    /* the answer so far: */
    int status;
    bool chunked, trailer, close;
    int64_t length;                         /* of the body, -1: not said */
    size_t head, body_end, scan;
    char position[MAX_POSITION + 1];
};

static struct {
    enum mode mode;
    const char *host, *file, *post_path, *probe_path, *timeline;
    double port, rate, seconds, warmup, connections, probe_every, max_wait_ms, timeout_ms, give_up_ms, seed;
    bool poisson;
    char headers[8192];
} opt = {.post_path = "/v1/events", .max_wait_ms = 1000, .timeout_ms = 10000, .give_up_ms = 10000, .seed = 1};

static struct {
    int epoll, timer;
    struct addrinfo *address;
    char *text, *tail;                      /* the file; what follows the target in every request */
    struct line *lines;
    size_t n_lines, next_line;
    struct conn *conns, **ring;             /* ring: the free connections, oldest first */
    size_t n, n_free, first_free, resting;
    int64_t free_since, sweep_at, armed_for;
    int64_t origin, start, end, due;        /* start: the warm-up is over; due: of the next request */
    uint64_t k, random;
    double elapsed_ns;
    struct samples latency, freshness;
    uint64_t errors[ERRORS], scheduled, sent, completed, in_window, probes, retries, reopened, queued, answers;
    int64_t behind;
    FILE *timeline;
} g;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

__attribute__((noreturn, format(printf, 1, 2))) static void refuse(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
    va_end(args);
    exit(2);
}

static void *need(void *memory) {
    if (!memory) refuse("there is not enough memory.");
    return memory;
}

/* ---- samples ---- */

static void push(struct samples *s, int64_t ns) {
    if (s->n == s->cap) s->ns = need(realloc(s->ns, (s->cap = s->cap ? 2 * s->cap : 1 << 16) * sizeof *s->ns));
    s->ns[s->n++] = ns;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double quantile_ms(const struct samples *s, double q) {
    size_t rank = (size_t)ceil(q * (double)s->n - 1e-9);    /* 1e-9: .9 * 10 must not become rank 10 */
    return (double)s->ns[rank ? rank - 1 : 0] / (double)MS;
}

static void print_samples(const char *name, struct samples *s) {
    static const struct { const char *name; double q; } shown[] = {
        {"p50", .5}, {"p90", .9}, {"p95", .95}, {"p99", .99}, {"p999", .999}, {"max", 1}};
    double sum = 0;
    if (s->n) qsort(s->ns, s->n, sizeof *s->ns, by_value);
    for (size_t i = 0; i < s->n; i++) sum += (double)s->ns[i];
    printf(",\"%s\":{", name);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (s->n) printf("\"%s\":%.3f,", shown[i].name, quantile_ms(s, shown[i].q));
        else printf("\"%s\":null,", shown[i].name);
    if (s->n) printf("\"mean\":%.3f,\"n\":%zu}", sum / (double)s->n / (double)MS, s->n);
    else printf("\"mean\":null,\"n\":0}");
}

/* ---- requests, written into the connection's own buffer ---- */

static void put(struct conn *c, const char *text, size_t len) {
    memcpy(c->out + c->out_len, text, len);
    c->out_len += len;
}

static void put_text(struct conn *c, const char *text) { put(c, text, strlen(text)); }

static void put_encoded(struct conn *c, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char b = (unsigned char)text[i];
        if (isalnum(b) || strchr("-._~", b)) c->out[c->out_len++] = (char)b;
        else c->out_len += (size_t)sprintf(c->out + c->out_len, "%%%02X", b);
    }
}

static void write_get(struct conn *c) {
    c->out_len = 0;
    put_text(c, "GET ");
    put(c, c->line->text, c->line->text_len);
    put_text(c, g.tail);
    put_text(c, "\r\n");
}

static void write_post(struct conn *c) {
    c->out_len = 0;
    put_text(c, "POST ");
    put_text(c, opt.post_path);
    put_text(c, g.tail);
    c->out_len += (size_t)sprintf(c->out + c->out_len, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                                  c->line->text_len);
    put(c, c->line->text, c->line->text_len);
}

static void write_check(struct conn *c) {
    const char *hole = strstr(opt.probe_path, "%s");
    c->out_len = 0;
    put_text(c, "GET ");
    put(c, opt.probe_path, (size_t)(hole - opt.probe_path));
    put_encoded(c, c->line->user, c->line->user_len);
    put_text(c, hole + 2);
    put_text(c, strchr(opt.probe_path, '?') ? "&after=" : "?after=");
    put_encoded(c, c->position, strlen(c->position));
    c->out_len += (size_t)sprintf(c->out + c->out_len, "&max_wait_ms=%.0f", opt.max_wait_ms);
    put_text(c, g.tail);
    put_text(c, "\r\n");
}

/* The most that any of the three writes, so that no request allocates. */
static size_t longest_request(void) {
    size_t most = 0;
    for (size_t i = 0; i < g.n_lines; i++) {
        size_t len = 3 * g.lines[i].user_len + g.lines[i].text_len;
        if (len > most) most = len;
    }
    return most + strlen(g.tail) + strlen(opt.post_path) + (opt.probe_path ? strlen(opt.probe_path) : 0)
         + 3 * MAX_POSITION + 256;
}

/* ---- answers: 1 complete, 0 more to come, -1 malformed ---- */

static bool is(const char *line, size_t len, const char *name) {
    return len >= strlen(name) && !strncasecmp(line, name, strlen(name));
}

static bool names(const char *line, size_t len, const char *token) {
    while (len && !is(line, len, token)) line++, len--;
    return len > 0;
}

static bool parse_header(struct conn *c, const char *line, size_t len) {
    if (is(line, len, "content-length:")) {
        const char *digits = line + 15 + strspn(line + 15, " \t");
        c->length = isdigit((unsigned char)*digits) ? strtoll(digits, NULL, 10) : -1;
        return c->length >= 0 && c->length <= MAX_ANSWER;
    }
    if (is(line, len, "transfer-encoding:")) c->chunked = names(line, len, "chunked");
    if (is(line, len, "connection:")) c->close = names(line, len, "close");
    return true;
}

static void forget_answer(struct conn *c) {
    c->status = 0;
    c->chunked = c->trailer = c->close = false;
    c->length = -1;
    c->head = c->body_end = c->scan = 0;
}

static int parse_head(struct conn *c) {
    if (c->in_len >= 7 && memcmp(c->in, "HTTP/1.", 7)) return -1;
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4), *line = memchr(c->in, '\n', c->in_len);
    if (!end) return c->in_len > MAX_HEAD ? -1 : 0;
    if (end < c->in + 12 || c->in[8] != ' ' || !isdigit((unsigned char)c->in[9])) return -1;
    c->status = atoi(c->in + 9);
    for (char *next; ++line < end; line = next) {
        next = memchr(line, '\n', (size_t)(end + 2 - line));
        if (!parse_header(c, line, (size_t)(next - line))) return -1;
    }
    c->head = c->body_end = c->scan = (size_t)(end + 4 - c->in);
    if (c->status == 204 || c->status == 304) c->length = 0;
    return 1;
}

/* Joins the chunks in place: a probe's answer is then one piece of memory without a second buffer. */
static int join_chunks(struct conn *c) {
    for (;;) {
        char *at = c->in + c->scan, *stop, *eol = memmem(at, c->in_len - c->scan, "\r\n", 2);
        if (!eol) return c->in_len - c->scan > 1024 ? -1 : 0;
        size_t data = (size_t)(eol + 2 - c->in);
        if (c->trailer) {
            c->scan = data;
            if (eol == at) return data == c->in_len ? 1 : -1;
            continue;
        }
        unsigned long size = strtoul(at, &stop, 16);
        if (!isxdigit((unsigned char)*at) || !strchr("\r; \t", *stop) || size > MAX_ANSWER) return -1;
        c->trailer = size == 0;
        if (size && c->in_len < data + size + 2) return 0;
        if (size && memcmp(c->in + data + size, "\r\n", 2)) return -1;
        memmove(c->in + c->body_end, c->in + data, size);
        c->body_end += size;
        c->scan = size ? data + size + 2 : data;
    }
}

static int parse(struct conn *c) {
    int found = c->head ? 1 : parse_head(c);
    if (found <= 0) return found;
    if (c->chunked) return join_chunks(c);
    if (c->length < 0) return -1;           /* on a connection to be kept, a body says where it ends */
    c->body_end = c->head + (size_t)c->length;
    return c->in_len > c->body_end ? -1 : c->in_len == c->body_end;
}

/* ---- the few JSON members a probe needs ---- */

/* The value of a member, or NULL. A key cannot be found inside a string: its quotes are escaped there. */
static const char *member(const char *from, const char *to, const char *quoted_key) {
    size_t len = strlen(quoted_key);
    for (const char *p = from; (p = memmem(p, (size_t)(to - p), quoted_key, len)); ) {
        p += len;
        p += strspn(p, " \t\r\n");
        if (*p == ':') return p + 1 + strspn(p + 1, " \t\r\n");
    }
    return NULL;
}

/* Copies the JSON string at `p`; positions are plain ASCII, so an escape in one is not ours. */
static bool copy_string(char *into, const char *p) {
    size_t len = p && *p == '"' ? strcspn(p + 1, "\"\\") : 0;
    if (!len || len > MAX_POSITION || p[1 + len] != '"') return false;
    memcpy(into, p + 1, len);
    into[len] = '\0';
    return true;
}

static bool take_position(struct conn *c) {
    c->in[c->body_end] = '\0';
    const char *p = member(c->in + c->head, c->in + c->body_end, "\"positions\"");
    return p && *p == '[' && copy_string(c->position, p + 1 + strspn(p + 1, " \t\r\n"));
}

static bool split_position(const char *text, unsigned long long *partition, unsigned long long *offset) {
    char colon = 0, more = 0;
    return isdigit((unsigned char)*text) && sscanf(text, "%llu%c%llu%c", partition, &colon, offset, &more) == 3
        && colon == ':';
}

/* Whether the answer's state includes the probe's event. */
static bool included(struct conn *c) {
    c->in[c->body_end] = '\0';
    char *to = c->in + c->body_end, at[MAX_POSITION + 1];
    const char *p = member(c->in + c->head, to, "\"freshness\"");
    if (!p || *p != '{' || !(to = strchr(p, '}')) || !copy_string(at, member(p, to, "\"position\""))) return false;
    unsigned long long asked[2], got[2];
    if (split_position(c->position, &asked[0], &asked[1]) && split_position(at, &got[0], &got[1]))
        return asked[0] == got[0] && got[1] >= asked[1];
    const char *stale = member(p, to, "\"stale\"");     /* a position that is not "partition:offset" */
    return !strcmp(at, c->position) && stale && is(stale, (size_t)(to - stale), "false");
}

/* ---- connections ---- */

static void watch(struct conn *c, uint32_t events, int how) {
    if (how == EPOLL_CTL_MOD && c->watched == events) return;
    struct epoll_event e = {.events = c->watched = events, .data.ptr = c};
    epoll_ctl(g.epoll, how, c->fd, &e);
}

static void hang_up(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

/* First in, first out: the last used first would leave most connections, and so workers, idle. */
static void release(struct conn *c, int64_t now) {
    if (c->close) hang_up(c);
    c->close = false;
    c->in_len = 0;
    c->state = FREE;
    if (!g.n_free) g.free_since = now;
    g.ring[(g.first_free + g.n_free++) % g.n] = c;
}

static void fail(struct conn *c, enum error error, int64_t now) {
    if (c->counted) g.errors[error]++;
    if (error >= CONNECT) hang_up(c);
    if (error != CONNECT) return release(c, now);
    c->state = RESTING;                     /* until the next sweep: a server that is down is no reason to spin */
    g.resting++;
}

static void attempt(struct conn *c, int64_t now);

static void server_closed(struct conn *c) {
    int64_t now = now_ns();
    if (c->state == FREE) return hang_up(c);
    if (c->in_len) return fail(c, MALFORMED, now);
    if (c->kind == POST || c->kind == PROBE || c->again) return fail(c, CONNECT, now);
    c->again = true;                        /* a GET may be repeated; a POST may have been taken */
    g.reopened++;
    hang_up(c);
    attempt(c, now);
}

static void flush(struct conn *c) {
    if (!c->off && c->kind != CHECK) c->first_at = now_ns();
    ssize_t went = send(c->fd, c->out + c->off, c->out_len - c->off, MSG_NOSIGNAL);
    if (went < 0 && errno != EAGAIN) return server_closed(c);
    if (went > 0) {
        c->off += (size_t)went;
        g.sent += c->counted && !c->wrote;
        c->wrote = true;
    }
    watch(c, c->off < c->out_len ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static int make_socket(int flags) {
    int one = 1, fd = socket(g.address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void open_conn(struct conn *c, int64_t now) {
    c->fd = make_socket(SOCK_NONBLOCK);
    if (c->fd < 0 || (connect(c->fd, g.address->ai_addr, g.address->ai_addrlen) && errno != EINPROGRESS))
        return fail(c, CONNECT, now);
    c->state = CONNECTING;
    watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

static void attempt(struct conn *c, int64_t now) {
    c->state = BUSY;
    c->attempt_at = now;
    c->off = c->in_len = 0;
    forget_answer(c);
    if (c->fd < 0) open_conn(c, now);
    else flush(c);
}

static void connected(struct conn *c) {
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error) return fail(c, CONNECT, now_ns());
    c->state = BUSY;
    flush(c);
}

/* ---- what an answer means ---- */

static void check(struct conn *c, int64_t now) {
    if (c->close) hang_up(c);
    c->again = false;
    attempt(c, now);
}

static void checked(struct conn *c, int64_t now) {
    if (c->status != 200) return fail(c, MALFORMED, now);
    if (included(c)) {
        if (c->counted) push(&g.freshness, now - c->first_at);
        if (c->counted && g.timeline)
            fprintf(g.timeline, "%s %jd %jd %jd\n", c->position, (intmax_t)c->first_at, (intmax_t)c->taken_at,
                    (intmax_t)now);
        return release(c, now);
    }
    if ((double)(now - c->first_at) > opt.give_up_ms * (double)MS) return fail(c, TIMEOUT, now);
    if (c->counted) g.retries++;
    check(c, now);
}

static void start_checking(struct conn *c, int64_t now) {
    if (c->counted) g.probes++;
    if (!take_position(c)) return fail(c, MALFORMED, now);
    c->kind = CHECK;
    c->taken_at = now;
    write_check(c);
    check(c, now);
}

static void answered(struct conn *c, int64_t now) {
    g.answers++;
    if (c->off < c->out_len) c->close = true;      /* answered before it was all sent: the rest has no reader */
    if (c->status / 100 == 4) return fail(c, STATUS_4XX, now);
    if (c->status / 100 == 5) return fail(c, STATUS_5XX, now);
    if (c->kind == CHECK) return checked(c, now);
    if (c->status / 100 != 2) return fail(c, MALFORMED, now);
    if (now >= g.start && now < g.end) g.in_window++;
    if (c->counted) {
        g.completed++;
        push(&g.latency, now - c->due);
    }
    if (c->kind == PROBE) return start_checking(c, now);
    release(c, now);
}

static bool grow(struct conn *c) {
    if (c->in_cap >= MAX_ANSWER + MAX_HEAD) return false;
    c->in = need(realloc(c->in, 2 * c->in_cap + 1));    /* + 1: always a NUL behind what was read */
    c->in_cap *= 2;
    return true;
}

static void readable(struct conn *c) {
    if (c->in_len == c->in_cap && !grow(c)) return fail(c, MALFORMED, now_ns());
    ssize_t got = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return server_closed(c);
    if (c->state == FREE) return hang_up(c);        /* bytes that answer nothing, such as an idle 408 */
    c->in_len += (size_t)got;
    c->in[c->in_len] = '\0';
    int done = parse(c);
    if (done > 0) answered(c, now_ns());
    else if (done < 0) fail(c, MALFORMED, now_ns());
}

/* ---- the schedule ---- */

static double uniform(void) {               /* splitmix64, in (0, 1] so that its logarithm is finite */
    uint64_t z = g.random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((double)((z ^ (z >> 31)) >> 11) + 1) * 0x1p-53;
}

/* Constant gaps are counted from the origin, so that rounding does not add up to a drift. */
static void plan_next(void) {
    if (opt.poisson) g.elapsed_ns -= log(uniform()) * (double)SECOND / opt.rate;
    else if (opt.mode != CLOSED) g.elapsed_ns = (double)g.k * (double)SECOND / opt.rate;
    g.due = g.origin + (int64_t)g.elapsed_ns;
    g.k++;
}

/* Counts the next request in, and says whether it is due after the warm-up. */
static bool take_due(int64_t due) {
    bool counted = due >= g.start;
    g.scheduled += counted;
    plan_next();
    return counted;
}

static enum kind next_kind(void) {          /* g.k is the number of the request about to be sent */
    if (opt.mode != EVENTS) return GET;
    return opt.probe_every > 0 && g.k % (uint64_t)opt.probe_every == 0 ? PROBE : POST;
}

static void begin(struct conn *c, int64_t now) {
    c->line = &g.lines[g.next_line++];
    if (g.next_line == g.n_lines) g.next_line = 0;
    c->kind = next_kind();
    c->due = opt.mode == CLOSED ? now : g.due;
    c->counted = take_due(c->due);
    c->wrote = c->again = false;
    if (c->kind == GET) write_get(c);
    else write_post(c);
    attempt(c, now);
}

static bool more(int64_t now) { return (opt.mode == CLOSED ? now : g.due) < g.end; }

/* Waiting for a connection is the server's time or too few connections; from then on it is our own lateness. */
static void note_lateness(int64_t now) {
    if (opt.mode == CLOSED || g.due < g.start) return;
    int64_t possible = g.due > g.free_since ? g.due : g.free_since;
    if (now - possible > g.behind) g.behind = now - possible;
    g.queued += g.free_since > g.due;
}

static void dispatch(void) {
    for (int64_t now; g.n_free && more(now = now_ns()) && (opt.mode == CLOSED || g.due <= now);) {
        struct conn *c = g.ring[g.first_free];
        g.first_free = (g.first_free + 1) % g.n;
        g.n_free--;
        note_lateness(now);
        begin(c, now);
    }
}

/* What needs no exact time is looked at now and then: requests that take too long, connections at rest. */
static void sweep(int64_t now) {
    for (size_t i = 0; i < g.n; i++) {
        struct conn *c = &g.conns[i];
        bool late = (double)(now - c->attempt_at) > opt.timeout_ms * (double)MS
                 || (c->kind == CHECK && (double)(now - c->first_at) > opt.give_up_ms * (double)MS);
        if (c->state == RESTING) {
            g.resting--;
            release(c, now);
        } else if (c->state != FREE && late) {
            fail(c, c->state == CONNECTING ? CONNECT : TIMEOUT, now);
        }
    }
    g.sweep_at = now + SWEEP;
}

/* ---- the loop ---- */

/* An absolute timerfd wakes to the microsecond, which epoll's own timeout in milliseconds does not. */
static void arm(void) {
    int64_t wake = g.sweep_at;
    if (g.n_free && opt.mode != CLOSED && g.due < g.end && g.due < wake) wake = g.due;
    if (wake == g.armed_for) return;
    g.armed_for = wake;
    struct itimerspec at = {.it_value = {.tv_sec = wake / SECOND, .tv_nsec = wake % SECOND}};
    timerfd_settime(g.timer, TFD_TIMER_ABSTIME, &at, NULL);     /* setting it again also clears its expiry */
}

static void handle(const struct epoll_event *e) {
    struct conn *c = e->data.ptr;
    if (!c) return;                         /* the timer: dispatch and sweep follow every wake-up anyway */
    if (c->state == CONNECTING) return connected(c);
    bool writable = e->events & EPOLLOUT && c->off < c->out_len;
    if (e->events & ~(uint32_t)EPOLLOUT) return readable(c);
    if (writable) flush(c);
}

static void loop(void) {
    struct epoll_event events[BATCH];
    double patience_ms = opt.probe_every > 0 ? fmax(opt.timeout_ms, opt.give_up_ms) : opt.timeout_ms;
    int64_t now = now_ns(), limit = g.end + (int64_t)(patience_ms * (double)MS);
    while (now < limit && (more(now) || g.n_free + g.resting < g.n)) {
        dispatch();
        arm();
        int n = epoll_wait(g.epoll, events, BATCH, -1);
        for (int i = 0; i < n; i++) handle(&events[i]);
        now = now_ns();
        if (now >= g.sweep_at) sweep(now);
    }
}

/* What was due and has no answer is an error too: left out, it would be omission again. */
static void close_books(void) {
    for (size_t i = 0; i < g.n; i++)
        if (g.conns[i].state == BUSY || g.conns[i].state == CONNECTING) g.errors[TIMEOUT] += g.conns[i].counted;
    while (opt.mode != CLOSED && g.due < g.end) g.errors[TIMEOUT] += take_due(g.due);
}

/* ---- before and after ---- */

static void resolve(void) {
    char port[16];
    snprintf(port, sizeof port, "%.0f", opt.port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int error = getaddrinfo(opt.host, port, &hints, &g.address);
    if (error) refuse("the host '%s' has no address: %s.", opt.host, gai_strerror(error));
}

/* Connects before the clock starts, so that no handshake is in a sample; what fails here is tried again later. */
static void connect_early(void) {
    struct timeval patience = {.tv_sec = 2};       /* Linux lets a blocking connect time out by this */
    for (size_t i = 0; i < g.n; i++) {
        struct conn *c = &g.conns[i];
        c->fd = make_socket(0);
        setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (c->fd < 0 || connect(c->fd, g.address->ai_addr, g.address->ai_addrlen)) return hang_up(c);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        watch(c, EPOLLIN, EPOLL_CTL_ADD);
    }
}

static void prepare(void) {
    g.n = (size_t)opt.connections;
    g.conns = need(calloc(g.n, sizeof *g.conns));
    g.ring = need(calloc(g.n, sizeof *g.ring));
    size_t out = longest_request();
    for (size_t i = 0; i < g.n; i++) {
        struct conn *c = &g.conns[i];
        c->fd = -1;
        c->in_cap = 32 << 10;
        c->in = need(malloc(c->in_cap + 1));
        c->out = need(malloc(out));
        release(c, 0);
    }
}

static bool printable(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 127) return false;
    return true;
}

static struct line parse_line(char *text, size_t len, size_t number) {
    char *tab = opt.mode == EVENTS ? memchr(text, '\t', len) : NULL;
    struct line line = {.user = text, .text = text, .text_len = len};
    if (tab) line = (struct line){text, tab + 1, (size_t)(tab - text), len - (size_t)(tab + 1 - text)};
    if (opt.mode == EVENTS && (!line.user_len || !printable(line.user, line.user_len)))
        refuse("line %zu of '%s' is not 'user_id TAB json'.", number, opt.file);
    if (opt.mode != EVENTS && (*text != '/' || memchr(text, ' ', len) || !printable(text, len)))
        refuse("line %zu of '%s' is not a request target such as /v1/popular.", number, opt.file);
    return line;
}

static size_t read_file(void) {
    FILE *file = fopen(opt.file, "rb");
    size_t len = 0, cap = 1 << 16, got;
    if (!file) refuse("cannot read '%s': %s.", opt.file, strerror(errno));
    g.text = need(malloc(cap + 1));
    while ((got = fread(g.text + len, 1, cap - len, file)) > 0)
        if ((len += got) == cap) g.text = need(realloc(g.text, (cap *= 2) + 1));
    fclose(file);
    g.text[len] = '\0';
    return len;
}

static void load_lines(void) {
    size_t len = read_file(), cap = 0, number = 0;
    for (char *at = g.text, *to = g.text + len, *eol; at < to; at = eol + 1) {
        eol = memchr(at, '\n', (size_t)(to - at));
        if (!eol) eol = to;
        size_t n = (size_t)(eol - at);
        if (n && at[n - 1] == '\r') n--;
        number++;
        if (!n) continue;
        if (g.n_lines == cap) g.lines = need(realloc(g.lines, (cap = cap ? 2 * cap : 1024) * sizeof *g.lines));
        g.lines[g.n_lines++] = parse_line(at, n, number);
    }
    if (!g.n_lines) refuse("'%s' holds no lines.", opt.file);
}

static void write_tail(void) {
    size_t cap = strlen(opt.host) + strlen(opt.headers) + 64;
    bool v6 = strchr(opt.host, ':') != NULL;
    g.tail = need(malloc(cap));
    snprintf(g.tail, cap, " HTTP/1.1\r\nHost: %s%s%s:%.0f\r\n%s", v6 ? "[" : "", opt.host, v6 ? "]" : "", opt.port,
             opt.headers);
}

/* ---- arguments ---- */

static void add_header(const char *line) {
    size_t used = strlen(opt.headers), len = strlen(line);
    if (!strchr(line, ':') || *line == ':' || !printable(line, len)) refuse("--header needs 'Name: value'.");
    if (used + len + 3 > sizeof opt.headers) refuse("the headers are longer than %zu bytes.", sizeof opt.headers);
    sprintf(opt.headers + used, "%s\r\n", line);
}

static const struct option {
    const char *name;
    int modes;
    bool required;
    const char **text;
    double *number, least, most;
    bool whole;
} options[] = {
    {"--host", ANY, true, &opt.host, NULL, 0, 0, false},
    {"--port", ANY, true, NULL, &opt.port, 1, 65535, true},
    {"--rate", OPEN, true, NULL, &opt.rate, 1e-3, 1e6, false},
    {"--seconds", ANY, true, NULL, &opt.seconds, 1e-3, 1e6, false},
    {"--connections", ANY, true, NULL, &opt.connections, 1, 10000, true},
    {"--paths", READS | CLOSED, true, &opt.file, NULL, 0, 0, false},
    {"--bodies", EVENTS, true, &opt.file, NULL, 0, 0, false},
    {"--warmup", ANY, false, NULL, &opt.warmup, 0, 1e6, false},
    {"--timeout-ms", ANY, false, NULL, &opt.timeout_ms, 1, 600000, false},
    {"--seed", OPEN, false, NULL, &opt.seed, 0, 4294967295., true},
    {"--post-path", EVENTS, false, &opt.post_path, NULL, 0, 0, false},
    {"--probe-every", EVENTS, false, NULL, &opt.probe_every, 0, 1e9, true},
    {"--probe-path", EVENTS, false, &opt.probe_path, NULL, 0, 0, false},
    {"--timeline", EVENTS, false, &opt.timeline, NULL, 0, 0, false},
    {"--max-wait-ms", EVENTS, false, NULL, &opt.max_wait_ms, 0, 600000, true},
    {"--give-up-ms", EVENTS, false, NULL, &opt.give_up_ms, 1, 600000, false},
};
enum { OPTIONS = sizeof options / sizeof *options };

static const char *mode_name(void) { return opt.mode == READS ? "reads" : opt.mode == EVENTS ? "events" : "closed"; }

static const struct option *find_option(const char *name) {
    for (size_t i = 0; i < OPTIONS; i++)
        if (!strcmp(options[i].name, name) && (options[i].modes & (int)opt.mode)) return &options[i];
    refuse("the mode '%s' has no option '%s'.", mode_name(), name);
}

static void set_option(const struct option *o, const char *value) {
    char *end;
    if (o->text) {
        if (!*value) refuse("%s needs a value.", o->name);
        *o->text = value;
        return;
    }
    *o->number = strtod(value, &end);
    bool fits = *o->number >= o->least && *o->number <= o->most && (!o->whole || *o->number == floor(*o->number));
    if (!*value || *end || !fits)
        refuse("%s needs a %s from %g to %.10g.", o->name, o->whole ? "whole number" : "number", o->least, o->most);
}

static void check_target(const char *name, const char *path) {
    if (*path != '/' || strchr(path, ' ') || !printable(path, strlen(path)))
        refuse("%s needs a request target such as /v1/events.", name);
}

static bool is_set(const struct option *o) { return o->text ? *o->text != NULL : *o->number > 0; }

static void check_options(void) {
    for (size_t i = 0; i < OPTIONS; i++)
        if (options[i].required && (options[i].modes & (int)opt.mode) && !is_set(&options[i]))
            refuse("the mode '%s' needs %s.", mode_name(), options[i].name);
    check_target("--post-path", opt.post_path);
    if (opt.probe_every > 0 && !opt.probe_path) refuse("--probe-every needs --probe-path.");
    if (opt.probe_path) check_target("--probe-path", opt.probe_path);
    if (opt.timeline && !opt.probe_path) refuse("--timeline needs --probe-path.");
    if (opt.probe_path && !strstr(opt.probe_path, "%s")) refuse("--probe-path needs %%s where the user id goes.");
}

static void parse_arguments(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    opt.mode = !strcmp(mode, "reads") ? READS : !strcmp(mode, "events") ? EVENTS : !strcmp(mode, "closed") ? CLOSED : 0;
    if (!opt.mode) refuse("the first argument is the mode: reads, events or closed.");
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--poisson") && opt.mode & OPEN) {
            opt.poisson = true;
            continue;
        }
        const struct option *o = strcmp(argv[i], "--header") ? find_option(argv[i]) : NULL;
        if (i + 1 == argc) refuse("%s needs a value.", argv[i]);
        if (o) set_option(o, argv[++i]);
        else add_header(argv[++i]);
    }
    check_options();
}

/* ---- the report ---- */

static double cpu_us(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void report(double cpu) {
    static const char *names[ERRORS] = {"status_4xx", "status_5xx", "connect", "timeout", "malformed"};
    static struct samples none;
    printf("{\"mode\":\"%s\",\"rate\":", mode_name());
    if (opt.mode == CLOSED) printf("null");
    else printf("%.10g", opt.rate);
    printf(",\"seconds\":%.10g,\"scheduled\":%ju,\"sent\":%ju,\"completed\":%ju,\"errors\":{", opt.seconds,
           (uintmax_t)g.scheduled, (uintmax_t)g.sent, (uintmax_t)g.completed);
    for (int i = 0; i < ERRORS; i++) printf("%s\"%s\":%ju", i ? "," : "", names[i], (uintmax_t)g.errors[i]);
    printf("},\"requests_per_s\":%.3f", (double)g.in_window / opt.seconds);
    print_samples("latency_ms", &g.latency);
    print_samples("post_ms", opt.mode == EVENTS ? &g.latency : &none);      /* in `events` the two are one */
    print_samples("freshness_ms", &g.freshness);
    printf(",\"probes\":%ju,\"retries\":%ju,\"reopened\":%ju,\"queued\":%ju", (uintmax_t)g.probes, (uintmax_t)g.retries,
           (uintmax_t)g.reopened, (uintmax_t)g.queued);
    printf(",\"behind_ms_max\":%.3f,\"cpu_us_per_request\":", (double)g.behind / (double)MS);
    if (g.answers) printf("%.3f}\n", cpu / (double)g.answers);
    else printf("null}\n");
}

static void free_all(void) {
    for (size_t i = 0; i < g.n; i++) {
        hang_up(&g.conns[i]);
        free(g.conns[i].in);
        free(g.conns[i].out);
    }
    void *rest[] = {g.conns, g.ring, g.lines, g.text, g.tail, g.latency.ns, g.freshness.ns};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) free(rest[i]);
    freeaddrinfo(g.address);
    close(g.timer);
    close(g.epoll);
}

static void start_clock(void) {
    g.random = (uint64_t)opt.seed;
    g.origin = now_ns();
    g.start = g.origin + (int64_t)(opt.warmup * (double)SECOND);
    g.end = g.start + (int64_t)(opt.seconds * (double)SECOND);
    g.sweep_at = g.origin + SWEEP;
    plan_next();
}

int main(int argc, char **argv) {
    parse_arguments(argc, argv);
    load_lines();
    write_tail();
    resolve();
    prepare();
    if (opt.timeline && !(g.timeline = fopen(opt.timeline, "w")))
        refuse("cannot write '%s': %s.", opt.timeline, strerror(errno));
    g.epoll = epoll_create1(EPOLL_CLOEXEC);
    g.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event timer = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(g.epoll, EPOLL_CTL_ADD, g.timer, &timer);
    connect_early();
    double cpu = cpu_us();
    start_clock();
    loop();
    close_books();
    report(cpu_us() - cpu);
    if (g.timeline && fclose(g.timeline)) refuse("cannot write '%s': %s.", opt.timeline, strerror(errno));
    free_all();
    return 0;
}
