/* Makes the n-th write or sync below a folder fail. Loaded with LD_PRELOAD into the writer only.
 * HOLDFAST_SHIM = "folder|kind|n|count|errno": kind w (write, pwrite, writev, ftruncate), s (fsync, fdatasync), a (all). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;
static char folder[1024], kind;
static long first, count;
static int number;

__attribute__((constructor)) static void start(void) {
    const char *plan = getenv("HOLDFAST_SHIM");
    if (plan) sscanf(plan, "%1023[^|]|%c|%ld|%ld|%d", folder, &kind, &first, &count, &number);
}

static int fails(int fd, char what) {
    char link[64], path[1024];
    if (!folder[0] || (kind != 'a' && kind != what)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder))) return 0;
    long n = atomic_fetch_add(&calls, 1);
    if (n < first || n >= first + count) return 0;
    errno = number;
    return 1;
}

#define REAL(name, result, ...) static result (*real)(__VA_ARGS__); if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *buf, size_t n) {
    REAL("write", ssize_t, int, const void *, size_t);
    return fails(fd, 'w') ? -1 : real(fd, buf, n);
}
ssize_t writev(int fd, const struct iovec *v, int n) {
    REAL("writev", ssize_t, int, const struct iovec *, int);
    return fails(fd, 'w') ? -1 : real(fd, v, n);
}
ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    return fails(fd, 'w') ? -1 : real(fd, buf, n, at);
}
int ftruncate64(int fd, off64_t n) {
    REAL("ftruncate64", int, int, off64_t);
    return fails(fd, 'w') ? -1 : real(fd, n);
}
int fsync(int fd) {
    REAL("fsync", int, int);
    return fails(fd, 's') ? -1 : real(fd);
}
int fdatasync(int fd) {
    REAL("fdatasync", int, int);
    return fails(fd, 's') ? -1 : real(fd);
}
