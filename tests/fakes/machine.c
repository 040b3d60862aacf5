/* What a machine does to a process, by LD_PRELOAD: its wall clock leaps, and it dies at any step.

   CLOCK_LEAP   a file of eight bytes: the seconds by which the wall clock is ahead, or behind
   STEPS        a file that gets a line for each step of the collector: the thread, what, on what
   STRIKE       "SIGNAL WHEN NUMBER", such as "9 before 3": this signal, before or after that step
   NO_LINKS     its file system knows no links

   A step is what others can see: a file written, synced, named or removed, a connection made, bytes
   sent over it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *leap;
static int steps = -1, number, strike_signal, strike_at;
static char strike_when[8];

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("CLOCK_LEAP");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *leap, PROT_READ, MAP_SHARED, file, 0);
    leap = mapped == MAP_FAILED ? NULL : mapped;
    if (file >= 0)
        close(file);

    path = getenv("STEPS");
    if (path && strcmp(program_invocation_short_name, "tilt-honeycomb") == 0)
        steps = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char *strike = getenv("STRIKE");
    if (strike)
        sscanf(strike, "%d %7s %d", &strike_signal, strike_when, &strike_at);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && leap && clock == CLOCK_REALTIME)
        now->tv_sec += *leap;
    return result;
}

static void strike(void) {
    kill(getpid(), strike_signal);
    /* Whoever lives on has heard it before it takes the next step. */
    usleep(20000);
}

static int before(const char *what, const char *on) {
    if (steps < 0)
        return 0;
    char line[512];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", syscall(SYS_gettid), what, on);
    syscall(SYS_write, steps, line, length < (int)sizeof line ? length : (int)sizeof line - 1);
    int step = __atomic_add_fetch(&number, 1, __ATOMIC_SEQ_CST);
    if (step == strike_at && strcmp(strike_when, "before") == 0)
        strike();
    return step;
}

static void after(int step) {
    if (step > 0 && step == strike_at && strcmp(strike_when, "after") == 0)
        strike();
}

static int lasts(int file) {
    struct stat seen;
    return steps >= 0 && fstat(file, &seen) == 0 && (S_ISREG(seen.st_mode) || S_ISDIR(seen.st_mode));
}

static int goes_out(int socket) {
    int domain = 0;
    socklen_t length = sizeof domain;
    return steps >= 0 && getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0
        && domain == AF_INET;
}

static int is_refused(const char *what) {
    if (strcmp(what, "linkat") != 0 || !getenv("NO_LINKS"))
        return 0;
    errno = EPERM;
    return 1;
}

/* A call of the next library's, as a step if it is one. */
#define STEP(type, name, parameters, arguments, is_step, on)                                        \
    type name parameters {                                                                          \
        if (is_refused(#name))                                                                      \
            return -1;                                                                              \
        type(*real) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name);                       \
        int step = (is_step) ? before(#name, on) : 0;                                               \
        type result = real arguments;                                                               \
        int error = errno;                                                                          \
        after(step);                                                                                \
        errno = error;                                                                              \
        return result;                                                                              \
    }

STEP(ssize_t, write, (int file, const void *bytes, size_t count), (file, bytes, count), lasts(file), "")
STEP(int, fsync, (int file), (file), lasts(file), "")
STEP(int, rename, (const char *from, const char *to), (from, to), 1, to)
STEP(int, linkat, (int at, const char *from, int there, const char *to, int flags), (at, from, there, to, flags), 1, to)
STEP(int, unlink, (const char *path), (path), 1, path)
STEP(int, connect, (int socket, const struct sockaddr *to, socklen_t size), (socket, to, size), goes_out(socket), "")
STEP(ssize_t, send, (int socket, const void *bytes, size_t count, int flags), (socket, bytes, count, flags), goes_out(socket), "")
