/* Loaded before the C library: lets the N-th call of a kind that is about a place below given ones fail, or kill the process.

   strace counts the calls of each thread, and an open of a library or a module of Python like one of a store; here one counter has the
   calls of all threads that are about the places, and no others, so every one of them can be met.

   CALLS_BELOW   places, separated by colons        CALLS_KIND    open, fsync, rename, mkdir, link or unlink
   CALLS_AT      number of the call, from 1         CALLS_ERRNO   the error; 0 kills the process
   CALLS_MAKES   1: of open, only calls that may make a file are counted
   CALLS_TOLD    file to which the path is written when the call was met */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long seen;

static int is_below(const char *path)
{
    const char *place = getenv("CALLS_BELOW");
    while (place && *place) {
        size_t length = strcspn(place, ":");
        if (strncmp(path, place, length) == 0 && (path[length] == '/' || path[length] == 0))
            return 1;
        place += length + (place[length] == ':');
    }
    return 0;
}

/* Tell whether this call is the one; errno is set then. A null path: the folder is the file itself. */
static int met(const char *kind, int folder, const char *path, int makes)
{
    char link[64], whole[2 * PATH_MAX];
    const char *at = getenv("CALLS_AT"), *error = getenv("CALLS_ERRNO"), *wanted = getenv("CALLS_KIND"), *told = getenv("CALLS_TOLD");
    const char *only = getenv("CALLS_MAKES");
    if (!at || !error || !wanted || strcmp(kind, wanted) || (only && *only == '1' && !makes))
        return 0;
    if (!path || (path[0] != '/' && folder != AT_FDCWD)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, whole, PATH_MAX - 1);
        if (length < 0)
            return 0;
        snprintf(whole + length, sizeof whole - length, "%s%s", path ? "/" : "", path ? path : "");
        path = whole;
    }
    if (!is_below(path) || atomic_fetch_add(&seen, 1) + 1 != atol(at))
        return 0;
    if (told) {
        int file = syscall(SYS_openat, AT_FDCWD, told, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dprintf(file, "%s\n", path);
        syscall(SYS_close, file);
    }
    if (!atoi(error))
        kill(getpid(), SIGKILL);
    errno = atoi(error);
    return 1;
}

#define REAL(name, result, ...)                                           \
    static result (*real)(__VA_ARGS__);                                   \
    if (!real)                                                            \
        real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name);

#define MODE(flags)                                                       \
    mode_t mode = 0;                                                      \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                              \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode = va_arg(rest, mode_t);                                      \
        va_end(rest);                                                     \
    }

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...)                            \
    {                                                                     \
        MODE(flags)                                                       \
        REAL(name, int, const char *, int, ...)                           \
        return met("open", AT_FDCWD, path, flags & O_CREAT) ? -1 : real(path, flags, mode); \
    }

#define OPENAT(name)                                                      \
    int name(int folder, const char *path, int flags, ...)                \
    {                                                                     \
        MODE(flags)                                                       \
        REAL(name, int, int, const char *, int, ...)                      \
        return met("open", folder, path, flags & O_CREAT) ? -1 : real(folder, path, flags, mode); \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

DIR *opendir(const char *path)
{
    REAL(opendir, DIR *, const char *)
    return met("open", AT_FDCWD, path, 0) ? NULL : real(path);
}

int fsync(int file)
{
    REAL(fsync, int, int)
    return met("fsync", file, NULL, 0) ? -1 : real(file);
}

int fdatasync(int file)
{
    REAL(fdatasync, int, int)
    return met("fsync", file, NULL, 0) ? -1 : real(file);
}

/* Of calls with two paths, where the second leads: there something appears. */
int rename(const char *from, const char *to)
{
    REAL(rename, int, const char *, const char *)
    return met("rename", AT_FDCWD, to, 0) ? -1 : real(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    REAL(renameat, int, int, const char *, int, const char *)
    return met("rename", to_folder, to, 0) ? -1 : real(from_folder, from, to_folder, to);
}

int link(const char *from, const char *to)
{
    REAL(link, int, const char *, const char *)
    return met("link", AT_FDCWD, to, 0) ? -1 : real(from, to);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    REAL(linkat, int, int, const char *, int, const char *, int)
    return met("link", to_folder, to, 0) ? -1 : real(from_folder, from, to_folder, to, flags);
}

int symlink(const char *from, const char *to)
{
    REAL(symlink, int, const char *, const char *)
    return met("link", AT_FDCWD, to, 0) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir, int, const char *, mode_t)
    return met("mkdir", AT_FDCWD, path, 0) ? -1 : real(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    REAL(mkdirat, int, int, const char *, mode_t)
    return met("mkdir", folder, path, 0) ? -1 : real(folder, path, mode);
}

int unlink(const char *path)
{
    REAL(unlink, int, const char *)
    return met("unlink", AT_FDCWD, path, 0) ? -1 : real(path);
}

int unlinkat(int folder, const char *path, int flags)
{
    REAL(unlinkat, int, int, const char *, int)
    return met("unlink", folder, path, 0) ? -1 : real(folder, path, flags);
}

int rmdir(const char *path)
{
    REAL(rmdir, int, const char *)
    return met("unlink", AT_FDCWD, path, 0) ? -1 : real(path);
}
