/* What a disk or a network share answers, for the tests of the machine's faults.

   FAULT_ROOT: the folder below which calls are answered. FAULT: a list of CALL:ERRNO, separated by commas, CALL being
   flock, syncdir (fsync of a folder), chmod, write or create. FAULT_AT: only paths that hold this text.
   gcc -shared -fPIC -o share.so share.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int meant(const char *path)
{
    const char *root = getenv("FAULT_ROOT"), *at = getenv("FAULT_AT");
    return root && path && !strncmp(path, root, strlen(root)) && (!at || strstr(path, at));
}

/* The number that a call is to be answered with, 0 for none. */
static int fault(const char *call)
{
    const char *list = getenv("FAULT");
    size_t length = strlen(call);
    for (; list; list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL)
        if (!strncmp(list, call, length) && list[length] == ':')
            return atoi(list + length + 1);
    return 0;
}

static int refused(const char *call, const char *path)
{
    int number = fault(call);
    if (!number || !meant(path))
        return 0;
    errno = number;
    return 1;
}

static int refused_at(const char *call, int descriptor)
{
    char link[64], path[PATH_MAX];
    if (!fault(call))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return refused(call, path);
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

int flock(int d, int operation)
{
    return refused_at("flock", d) ? -1 : REAL(int, "flock", int, int)(d, operation);
}

int fsync(int d)
{
    struct stat status;
    if (fault("syncdir") && !fstat(d, &status) && S_ISDIR(status.st_mode) && refused_at("syncdir", d))
        return -1;
    return REAL(int, "fsync", int)(d);
}

int chmod(const char *path, mode_t mode)
{
    return refused("chmod", path) ? -1 : REAL(int, "chmod", const char *, mode_t)(path, mode);
}

int fchmod(int d, mode_t mode)
{
    return refused_at("chmod", d) ? -1 : REAL(int, "fchmod", int, mode_t)(d, mode);
}

ssize_t write(int d, const void *data, size_t size)
{
    return refused_at("write", d) ? -1 : REAL(ssize_t, "write", int, const void *, size_t)(d, data, size);
}

ssize_t pwrite(int d, const void *data, size_t size, off_t at)
{
    return refused_at("write", d) ? -1 : REAL(ssize_t, "pwrite", int, const void *, size_t, off_t)(d, data, size, at);
}

ssize_t pwrite64(int d, const void *data, size_t size, off64_t at)
{
    return refused_at("write", d) ? -1 : REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(d, data, size, at);
}

#define OPEN(name)                                                                  \
    int name(const char *path, int flags, ...)                                      \
    {                                                                               \
        va_list rest;                                                               \
        va_start(rest, flags);                                                      \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;     \
        va_end(rest);                                                               \
        if (flags & O_CREAT && refused("create", path))                             \
            return -1;                                                              \
        return REAL(int, #name, const char *, int, ...)(path, flags, mode);         \
    }
OPEN(open)
OPEN(open64)
