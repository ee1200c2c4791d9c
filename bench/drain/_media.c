/* The voices of the drain benchmark: users, media edges and agents on real UDP sockets, one thread for all of them.
 *
 * A user sends a numbered packet every 20 ms to the edge it talks through, which stamps the agent's number on it and
 * passes it on; an agent sends numbered packets of its own to the edge that its user was last heard through, which
 * passes them on to the user. What each end heard is written into tables that Python reads. A packet that begins with
 * 'T' is part of the conversation about sessions and goes to Python through a pipe, unread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { INTERVAL_US = 20000, LATEST_MS = 256, SIZE = 172, BATCH = 64, LONGEST = 1600, USER = 0, EDGE = 1, HUB = 2 };

typedef struct {
    uint8_t magic, down;
    uint16_t edge;
    uint32_t flow, number;
    int32_t agent;
    uint32_t memory;
} Head;

typedef struct {
    int32_t flows, edges, agents, hubs, numbers, pipe_fd, stop;
    uint64_t skipped, strangers, unsent;
    int32_t *user_fd, *edge_fd, *hub_fd;
    struct sockaddr_in *user_at, *edge_at, *hub_at;
    uint8_t *talking;      /* by flow */
    int32_t *user_edge;    /* by flow: the edge it talks through */
    int32_t *leg_agent;    /* by edge and flow: the agent, -1 where the edge does not carry the flow */
    int32_t *agent_hub;    /* by agent */
    int32_t *agent_flow;   /* by agent: whom it talks with, -1 nobody */
    uint32_t *agent_memory;
    int32_t *serving;      /* by flow: the agent that answers, -1 none */
    int32_t *answer_edge;  /* by flow: where the agent heard it last */
    uint32_t *heard_up;    /* by flow: the latest number that the agent heard */
    uint32_t *up_next, *down_next;
    uint32_t *up_sent, *up_arrived, *down_sent, *down_arrived; /* by flow and number: microseconds since the start + 1 */
    uint32_t *leg_heard;   /* by edge and flow: microseconds since the start */
    uint32_t *heard;       /* by flow: when the user last heard its agent */
    int32_t *heard_edge;   /* by flow: through which edge */
    int32_t *heard_agent;
    uint32_t *heard_memory;
    uint32_t *changes;     /* by flow: how often agent or memory changed */
    uint32_t *late;        /* by milliseconds: how many packets were sent so late */
} World;

typedef struct {
    uint8_t who;
    uint8_t spare;
    uint16_t size;
    int32_t index;
    uint32_t host;
    uint16_t port, spare_too;
} Letter;

static uint64_t start_us;

static uint64_t clock_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + now.tv_nsec / 1000;
}

static uint32_t since(void) { return (uint32_t)(clock_us() - start_us) + 1; }

uint64_t media_now(void) { return since(); }

void media_start(void) { start_us = clock_us(); }

static void say(World *w, int fd, const struct sockaddr_in *to, const Head *head) {
    static uint8_t packet[SIZE];
    memcpy(packet, head, sizeof *head);
    if (sendto(fd, packet, SIZE, MSG_DONTWAIT, (const struct sockaddr *)to, sizeof *to) < 0) w->unsent++;
}

static void speak(World *w, int flow) {
    if (!w->talking[flow]) return;
    uint64_t row = (uint64_t)flow * w->numbers;
    int edge = w->user_edge[flow];
    if (edge >= 0 && w->up_next[flow] < (uint32_t)w->numbers) {
        Head head = {'D', 0, (uint16_t)edge, flow, w->up_next[flow]++, -1, 0};
        w->up_sent[row + head.number] = since();
        say(w, w->user_fd[flow], &w->edge_at[edge], &head);
    }
    int agent = w->serving[flow];
    if (agent >= 0 && w->down_next[flow] < (uint32_t)w->numbers) {
        edge = w->answer_edge[flow];
        Head head = {'D', 1, (uint16_t)edge, flow, w->down_next[flow]++, agent, w->agent_memory[agent]};
        w->down_sent[row + head.number] = since();
        say(w, w->hub_fd[w->agent_hub[agent]], &w->edge_at[edge], &head);
    }
}

static void on_user(World *w, int flow, const Head *head) {
    if ((int)head->flow != flow || !head->down || head->number >= (uint32_t)w->numbers) { w->strangers++; return; }
    uint64_t at = (uint64_t)flow * w->numbers + head->number;
    uint32_t now = since();
    if (!w->down_arrived[at]) w->down_arrived[at] = now;
    w->heard[flow] = now;
    w->heard_edge[flow] = head->edge;
    if (w->heard_agent[flow] != head->agent || w->heard_memory[flow] != head->memory) {
        if (w->heard_agent[flow] >= 0) w->changes[flow]++;
        w->heard_agent[flow] = head->agent;
        w->heard_memory[flow] = head->memory;
    }
}

/* Where an edge passes a packet on; NULL when the flow is not here. */
static struct sockaddr_in *via(World *w, int edge, Head *head) {
    if (head->flow >= (uint32_t)w->flows) { w->strangers++; return NULL; }
    uint64_t leg = (uint64_t)edge * w->flows + head->flow;
    int agent = w->leg_agent[leg];
    if (agent < 0) { w->strangers++; return NULL; }
    head->edge = edge;
    if (head->down) return &w->user_at[head->flow];
    w->leg_heard[leg] = since();
    head->agent = agent;
    return &w->hub_at[w->agent_hub[agent]];
}

static void on_hub(World *w, const Head *head) {
    int agent = head->agent, flow = head->flow;
    if (head->down || flow >= w->flows || agent < 0 || agent >= w->agents || head->number >= (uint32_t)w->numbers) {
        w->strangers++;
        return;
    }
    if (w->agent_flow[agent] != flow) { /* its memory begins anew: the user will see another number */
        w->agent_flow[agent] = flow;
        w->agent_memory[agent] = w->agent_memory[agent] * 1664525u + 1013904223u;
    }
    uint64_t at = (uint64_t)flow * w->numbers + head->number;
    if (!w->up_arrived[at]) w->up_arrived[at] = since();
    if (w->serving[flow] != agent || head->number >= w->heard_up[flow]) {
        w->heard_up[flow] = head->number;
        w->answer_edge[flow] = head->edge;
        w->serving[flow] = agent;
    }
}

static void letter(World *w, int who, int index, const uint8_t *data, int size, const struct sockaddr_in *from) {
    uint8_t out[sizeof(Letter) + LONGEST];
    Letter head = {who, 0, size, index, from->sin_addr.s_addr, from->sin_port, 0};
    memcpy(out, &head, sizeof head);
    memcpy(out + sizeof head, data, size);
    if (write(w->pipe_fd, out, sizeof head + size) < 0) w->unsent++; /* at most PIPE_BUF: whole or not at all */
}

static void drain_socket(World *w, int who, int index, int fd) {
    static uint8_t data[BATCH][LONGEST];
    static struct sockaddr_in from[BATCH];
    struct mmsghdr in[BATCH], out[BATCH];
    struct iovec parts[BATCH];
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){data[i], LONGEST};
        memset(&in[i], 0, sizeof in[i]);
        in[i].msg_hdr = (struct msghdr){&from[i], sizeof from[i], &parts[i], 1, NULL, 0, 0};
    }
    int count = recvmmsg(fd, in, BATCH, MSG_DONTWAIT, NULL), ready = 0;
    for (int i = 0; i < count; i++) {
        Head *head = (Head *)data[i];
        int size = in[i].msg_len;
        if (size > 0 && data[i][0] == 'T') { letter(w, who, index, data[i], size, &from[i]); continue; }
        if (size != SIZE || head->magic != 'D') { w->strangers++; continue; }
        if (who == USER) on_user(w, index, head);
        else if (who == HUB) on_hub(w, head);
        else {
            struct sockaddr_in *to = via(w, index, head);
            if (to == NULL) continue;
            parts[i].iov_len = SIZE;
            out[ready] = in[i];
            out[ready].msg_hdr.msg_name = to;
            out[ready].msg_hdr.msg_namelen = sizeof *to;
            ready++;
        }
    }
    for (int sent = 0; sent < ready;) {
        int went = sendmmsg(fd, out + sent, ready - sent, MSG_DONTWAIT);
        if (went <= 0) { w->unsent++; went = 1; } /* that one is lost, as on any full line */
        sent += went;
    }
}

static void watch(int poller, int fd, int who, int index) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)who << 60 | (uint64_t)index << 32 | (uint32_t)fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

/* Talk until told to stop. */
int media_run(World *w) {
    struct sched_param first = {1};
    sched_setscheduler(0, SCHED_RR, &first); /* this thread is the clock of the measurement; without root it does not */
    int poller = epoll_create1(0);
    if (poller < 0) return errno;
    for (int i = 0; i < w->flows; i++) watch(poller, w->user_fd[i], USER, i);
    for (int i = 0; i < w->edges; i++) watch(poller, w->edge_fd[i], EDGE, i);
    for (int i = 0; i < w->hubs; i++) watch(poller, w->hub_fd[i], HUB, i);
    uint64_t step = 0, began = clock_us();
    struct epoll_event events[256];
    while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
        uint64_t now = clock_us();
        for (int most = 2 * w->flows; most > 0; most--) {
            uint64_t due = began + step * INTERVAL_US / w->flows;
            if (due > now) break;
            if (now - due > 1000000) { w->skipped += now - due; began += now - due; }
            uint64_t late_ms = (now - due) / 1000;
            w->late[late_ms < LATEST_MS ? late_ms : LATEST_MS - 1]++;
            speak(w, step++ % w->flows);
        }
        int count = epoll_wait(poller, events, 256, 1);
        for (int i = 0; i < count; i++) {
            uint64_t what = events[i].data.u64;
            drain_socket(w, what >> 60, (what >> 32) & 0xfffffff, (int)(uint32_t)what);
        }
    }
    close(poller);
    return 0;
}
