/* An OpenAI-compatible upstream that costs next to nothing: ready-made bytes over epoll.
 *
 *     cc -O2 -o fast_upstream fast_upstream.c && ./fast_upstream WHOLE CHUNKS PACE_US
 *
 * WHOLE and CHUNKS are files: the bytes of a whole HTTP answer, and those of a stream, its pieces
 * apart by a NUL (the head is the first). A request whose body says "stream":true gets the
 * pieces as writes of their own, one to each connection in turn; under the path /paced one every
 * PACE_US microseconds, for what a chunk costs while the gateway has time. The port is printed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_CONNECTIONS = 4096, ROOM = 1 << 16, MOST_PIECES = 4096 };

struct connection {
    char *held;
    size_t size;
    int piece; /* the next one of a stream; -1 for none */
    int paced;
};

static struct connection connections[MOST_CONNECTIONS];
static int streaming[MOST_CONNECTIONS], n_streaming;
static char *whole, *pieces[MOST_PIECES];
static size_t whole_size, piece_sizes[MOST_PIECES];
static int n_pieces;

static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) { perror(path); exit(1); }
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size + 1);
    if (fread(bytes, 1, *size, file) != *size) { perror(path); exit(1); }
    bytes[*size] = 0;
    fclose(file);
    return bytes;
}

static long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static void hang_up(int fd) {
    close(fd);
    free(connections[fd].held);
    connections[fd] = (struct connection){.piece = -1};
}

/* Answers are small and clients read: what a socket does not take at once ends the connection. */
static int send_all(int fd, const char *bytes, size_t size) {
    return send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static size_t body_size(const char *head, const char *end) {
    for (const char *line = head; line && line < end; line = strstr(line, "\r\n")) {
        while (*line == '\r' || *line == '\n') line++;
        if (!strncasecmp(line, "content-length:", 15)) return strtoul(line + 15, NULL, 10);
    }
    return 0;
}

static void serve(int fd) {
    struct connection *c = &connections[fd];
    ssize_t got = recv(fd, c->held + c->size, ROOM - 1 - c->size, 0);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        hang_up(fd);
        return;
    }
    c->size += (size_t)got;
    c->held[c->size] = 0;
    char *end = strstr(c->held, "\r\n\r\n");
    if (!end) return;
    size_t wanted = (size_t)(end + 4 - c->held) + body_size(c->held, end);
    if (c->size < wanted) {
        if (wanted >= ROOM) hang_up(fd);
        return;
    }
    int is_stream = strstr(end, "\"stream\":true") || strstr(end, "\"stream\": true");
    c->paced = strstr(c->held, " /paced/") != NULL;
    c->size = 0;
    if (!is_stream) {
        if (!send_all(fd, whole, whole_size)) hang_up(fd);
        return;
    }
    c->piece = 0;
    streaming[n_streaming++] = fd;
}

static void play(int paced) {
    for (int i = 0; i < n_streaming;) {
        int fd = streaming[i];
        struct connection *c = &connections[fd];
        if (c->piece >= 0 && c->paced != paced) { i++; continue; }
        if (c->piece >= 0 && send_all(fd, pieces[c->piece], piece_sizes[c->piece])) {
            if (++c->piece < n_pieces) { i++; continue; }
            c->piece = -1;
        } else if (c->piece >= 0) {
            hang_up(fd);
        }
        streaming[i] = streaming[--n_streaming];
    }
}

static int is_playing(int paced) {
    for (int i = 0; i < n_streaming; i++)
        if (connections[streaming[i]].paced == paced) return 1;
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "usage: %s WHOLE CHUNKS PACE_US\n", argv[0]); return 2; }
    size_t size;
    whole = read_file(argv[1], &whole_size);
    char *chunks = read_file(argv[2], &size);
    for (char *at = chunks; at < chunks + size && n_pieces < MOST_PIECES; at += strlen(at) + 1) {
        pieces[n_pieces] = at;
        piece_sizes[n_pieces++] = strlen(at);
    }
    long pace_us = atol(argv[3]), next = 0;
    int one = 1, listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    if (bind(listening, (struct sockaddr *)&at, sizeof at) || listen(listening, 1024)) {
        perror("listen");
        return 1;
    }
    getsockname(listening, (struct sockaddr *)&at, &length);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (int i = 0; i < MOST_CONNECTIONS; i++) connections[i].piece = -1;
    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listening, &event);
    for (;;) {
        int wait = -1;
        if (is_playing(0)) wait = 0;
        else if (is_playing(1)) wait = 1;
        int n = epoll_wait(poll, events, 256, wait);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listening) { serve(events[i].data.fd); continue; }
            int fd;
            while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= MOST_CONNECTIONS) { close(fd); continue; }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                connections[fd] = (struct connection){.held = malloc(ROOM), .piece = -1};
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
            }
        }
        play(0);
        if (now_us() >= next) {
            play(1);
            next = now_us() + pace_us;
        }
    }
}
