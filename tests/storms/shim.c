/* A machine that fails, preloaded: counts the calls below STORM_ROOT that change files, in a page that all processes
   of a run share (STORM_COUNTER), and lets some of them fail. STORM_FAULT is CALL:FIRST:COUNT:ERRNO, all numbers but
   the call's name: the calls FIRST to FIRST+COUNT-1 of it end with the error; COUNT 0 is all from FIRST on.
   STORM_CLOCK, seconds since 1970, is what the clock says that people read. gcc -shared -fPIC -o shim.so shim.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { WRITE, RENAME, FSYNC, OPEN, MKDIR, UNLINK, TRUNCATE, CHMOD, FLOCK, KINDS };
static const char *NAMES[KINDS] = {"write", "rename", "fsync", "open", "mkdir", "unlink", "truncate", "chmod", "flock"};

static long *counters(void) {
    static long *page;
    if (page) return page;
    const char *path = getenv("STORM_COUNTER");
    if (!path) return NULL;
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int fd = real(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return NULL;
    void *made = mmap(NULL, KINDS * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return page = made == MAP_FAILED ? NULL : made;
}

static int below(const char *path) {
    const char *root = getenv("STORM_ROOT");
    if (!root || !path) return 0;
    char whole[PATH_MAX];
    if (path[0] != '/' && getcwd(whole, sizeof whole - strlen(path) - 2)) {
        strcat(strcat(whole, "/"), path);
        path = whole;
    }
    return strncmp(path, root, strlen(root)) == 0;
}

static int below_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (!getenv("STORM_ROOT")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}

/* Whether this call, one of the given kind below the root, is to fail; errno is set then. */
static int fails(int kind) {
    int kept = errno;
    long *page = counters();
    if (!page) return 0;
    long number = __sync_add_and_fetch(&page[kind], 1);
    const char *fault = getenv("STORM_FAULT");
    char name[16];
    long first, count;
    int error;
    if (fault && sscanf(fault, "%15[a-z]:%ld:%ld:%d", name, &first, &count, &error) == 4 && !strcmp(name, NAMES[kind])
        && number >= first && (!count || number < first + count)) {
        errno = error;
        return 1;
    }
    errno = kept;
    return 0;
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

ssize_t write(int fd, const void *b, size_t n) {
    return below_fd(fd) && fails(WRITE) ? -1 : REAL(ssize_t, "write", int, const void *, size_t)(fd, b, n);
}
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) {
    return below_fd(fd) && fails(WRITE) ? -1 : REAL(ssize_t, "pwrite", int, const void *, size_t, off_t)(fd, b, n, at);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) {
    return below_fd(fd) && fails(WRITE) ? -1 : REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(fd, b, n, at);
}
int rename(const char *a, const char *b) {
    return below(b) && fails(RENAME) ? -1 : REAL(int, "rename", const char *, const char *)(a, b);
}
int fsync(int fd) { return below_fd(fd) && fails(FSYNC) ? -1 : REAL(int, "fsync", int)(fd); }
int fdatasync(int fd) { return below_fd(fd) && fails(FSYNC) ? -1 : REAL(int, "fdatasync", int)(fd); }
int mkdir(const char *p, mode_t m) { return below(p) && fails(MKDIR) ? -1 : REAL(int, "mkdir", const char *, mode_t)(p, m); }
int unlink(const char *p) { return below(p) && fails(UNLINK) ? -1 : REAL(int, "unlink", const char *)(p); }
int ftruncate(int fd, off_t n) { return below_fd(fd) && fails(TRUNCATE) ? -1 : REAL(int, "ftruncate", int, off_t)(fd, n); }
int ftruncate64(int fd, off64_t n) {
    return below_fd(fd) && fails(TRUNCATE) ? -1 : REAL(int, "ftruncate64", int, off64_t)(fd, n);
}
int chmod(const char *p, mode_t m) { return below(p) && fails(CHMOD) ? -1 : REAL(int, "chmod", const char *, mode_t)(p, m); }
int fchmod(int fd, mode_t m) { return below_fd(fd) && fails(CHMOD) ? -1 : REAL(int, "fchmod", int, mode_t)(fd, m); }
int flock(int fd, int how) { return below_fd(fd) && fails(FLOCK) ? -1 : REAL(int, "flock", int, int)(fd, how); }

#define OPENS(name)                                                                                                    \
    int name(const char *p, int how, ...) {                                                                            \
        va_list more;                                                                                                  \
        va_start(more, how);                                                                                           \
        mode_t mode = how & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                          \
        va_end(more);                                                                                                  \
        if ((how & (O_WRONLY | O_RDWR | O_CREAT)) && below(p) && fails(OPEN)) return -1;                               \
        return REAL(int, #name, const char *, int, ...)(p, how, mode);                                                 \
    }
OPENS(open)
OPENS(open64)

/* The clock of the wall stands still; those that measure spans go on. */
static int stopped(time_t *now) {
    const char *clock = getenv("STORM_CLOCK");
    if (clock) *now = atol(clock);
    return clock != NULL;
}
int clock_gettime(clockid_t which, struct timespec *ts) {
    time_t now;
    if (which == CLOCK_REALTIME && stopped(&now)) {
        ts->tv_sec = now;
        ts->tv_nsec = 0;
        return 0;
    }
    return REAL(int, "clock_gettime", clockid_t, struct timespec *)(which, ts);
}
time_t time(time_t *out) {
    time_t now;
    if (!stopped(&now)) now = REAL(time_t, "time", time_t *)(NULL);
    if (out) *out = now;
    return now;
}
