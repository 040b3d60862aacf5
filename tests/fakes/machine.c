/* A library for LD_PRELOAD that shifts a process's wall clock, makes calls fail, and can send it a
   signal at any step.

   A step is a system call with an effect outside the process: write, fsync, ftruncate64, rename or
   unlink on a file, and connect or send on an IPv4 socket.

   CLOCK_LEAP   a file of eight bytes: the offset of the wall clock in seconds (int64, native order)
   STEPS        a file that gets one line for each step of the collector: thread, call, target; for a
                write and a sync the target is the number of bytes and the path
   STRIKE       "SIGNAL WHEN NUMBER", such as "9 before 3": send signal 9 before step 3
   FAULTS       a file of three int64. If one is not zero: 1. names cannot be resolved (1: the lookup hangs
                until this changes, 2: it fails), 2. no thread can start, 3. no folder can be synced.
                With this file, each name that can be resolved leads to this machine. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
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

enum fault { NAMES, THREADS, FOLDER_SYNCS, FAULT_COUNT };

static volatile const int64_t *clock_offset, *faults;
static int steps_file = -1, step_count, signal_number, signal_step;
static char signal_when[8];

/* Maps the file that a variable names. NULL if there is none. */
static volatile const int64_t *map_file(const char *variable, size_t count) {
    const char *path = getenv(variable);
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return NULL;
    void *mapped = mmap(NULL, count * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    return mapped == MAP_FAILED ? NULL : mapped;
}

__attribute__((constructor)) static void start(void) {
    clock_offset = map_file("CLOCK_LEAP", 1);
    faults = map_file("FAULTS", FAULT_COUNT);

    const char *path = getenv("STEPS");
    if (path && strcmp(program_invocation_short_name, "tilt-honeycomb") == 0)
        steps_file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char *strike = getenv("STRIKE");
    if (strike)
        sscanf(strike, "%d %7s %d", &signal_number, signal_when, &signal_step);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock_offset && clock == CLOCK_REALTIME)
        now->tv_sec += *clock_offset;
    return result;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
    if (!faults)
        return real(name, service, hints, found);
    while (faults[NAMES] == 1)
        usleep(5000);
    return faults[NAMES] ? EAI_AGAIN : real("127.0.0.1", service, hints, found);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(RTLD_NEXT, "pthread_create");
    return faults && faults[THREADS] ? EAGAIN : real(thread, attributes, start, argument);
}

static void send_signal(void) {
    kill(getpid(), signal_number);
    /* Gives the process time to handle the signal before its next step. */
    usleep(20000);
}

/* Logs a step and returns its number, from 1. Sends the signal if STRIKE says so. */
static int before_step(const char *call, const char *target) {
    if (steps_file < 0)
        return 0;
    char line[512];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", syscall(SYS_gettid), call, target);
    syscall(SYS_write, steps_file, line, length < (int)sizeof line ? length : (int)sizeof line - 1);
    int step = __atomic_add_fetch(&step_count, 1, __ATOMIC_SEQ_CST);
    if (step == signal_step && strcmp(signal_when, "before") == 0)
        send_signal();
    return step;
}

static void after_step(int step) {
    if (step > 0 && step == signal_step && strcmp(signal_when, "after") == 0)
        send_signal();
}

/* True for a file or folder, while steps are logged. */
static int is_file(int file) {
    struct stat status;
    return steps_file >= 0 && fstat(file, &status) == 0
        && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
}

/* The number of bytes and the path of an open file. */
static const char *bytes_and_path(size_t bytes, int file) {
    static __thread char text[480];
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    int start = snprintf(text, sizeof text, "%zu ", bytes);
    ssize_t length = readlink(link, text + start, sizeof text - start - 1);
    text[start + (length < 0 ? 0 : length)] = 0;
    return text;
}

static int is_ipv4_socket(int socket) {
    int domain = 0;
    socklen_t length = sizeof domain;
    return steps_file >= 0 && getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0
        && domain == AF_INET;
}

static int is_unsyncable(int file) {
    struct stat status;
    if (!faults || !faults[FOLDER_SYNCS] || fstat(file, &status) != 0 || !S_ISDIR(status.st_mode))
        return 0;
    before_step("fsync", "folder EINVAL");
    errno = EINVAL;
    return 1;
}

/* Defines a function that calls the real one, as a step if `is_step` holds. It fails if `fails` holds,
   which also sets errno. */
#define STEP(type, name, parameters, arguments, is_step, target, fails)                             \
    type name parameters {                                                                          \
        if (fails)                                                                                  \
            return -1;                                                                              \
        type(*real) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name);                       \
        int step = (is_step) ? before_step(#name, target) : 0;                                      \
        type result = real arguments;                                                               \
        int error = errno;                                                                          \
        after_step(step);                                                                           \
        errno = error;                                                                              \
        return result;                                                                              \
    }

STEP(ssize_t, write, (int file, const void *bytes, size_t count), (file, bytes, count), is_file(file), bytes_and_path(count, file), 0)
STEP(int, fsync, (int file), (file), is_file(file), bytes_and_path(0, file), is_unsyncable(file))
STEP(int, ftruncate64, (int file, off64_t length), (file, length), is_file(file), bytes_and_path((size_t)length, file), 0)
STEP(int, rename, (const char *from, const char *to), (from, to), 1, to, 0)
STEP(int, unlink, (const char *path), (path), 1, path, 0)
STEP(int, connect, (int socket, const struct sockaddr *to, socklen_t size), (socket, to, size), is_ipv4_socket(socket), "", 0)
STEP(ssize_t, send, (int socket, const void *bytes, size_t count, int flags), (socket, bytes, count, flags), is_ipv4_socket(socket), "", 0)
