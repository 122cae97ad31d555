/*
 * A wall clock that a drill can step: loaded before the C library into the store's server, whose clock is then that of
 * this machine and what stands in a file.
 *
 * Takes  DRILL_CLOCK  a file of eight bytes: seconds to add, a signed integer in this machine's order
 * Gives  gettimeofday, time, and clock_gettime of CLOCK_REALTIME; every other clock is as it was
 *
 *   cc -shared -fPIC -O2 -o clock.so clock.c -ldl
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;
static int (*true_gettimeofday)(struct timeval *, void *);
static int (*true_clock_gettime)(clockid_t, struct timespec *);

/* By the first who asks, who may be the constructor of a library that was loaded before (mimalloc, in Python 3.13). */
__attribute__((constructor)) static void begin(void)
{
    if (true_clock_gettime != NULL)
        return;
    true_gettimeofday = dlsym(RTLD_NEXT, "gettimeofday");
    true_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *name = getenv("DRILL_CLOCK");
    int file = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED)
        ahead = found;
    close(file);
}

int gettimeofday(struct timeval *at, void *zone)
{
    begin();
    int failed = true_gettimeofday(at, zone);
    if (!failed && ahead != NULL)
        at->tv_sec += *ahead;
    return failed;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    begin();
    int failed = true_clock_gettime(clock, at);
    if (!failed && clock == CLOCK_REALTIME && ahead != NULL)
        at->tv_sec += *ahead;
    return failed;
}

time_t time(time_t *into)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (into != NULL)
        *into = at.tv_sec;
    return at.tv_sec;
}
