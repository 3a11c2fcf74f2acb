/* Preloaded into the daemon: every sync first waits for as long as SLOW_DISK_US says, in the thread that asked and in no
 * other, and says in the file SLOW_DISK_TRACE that it was asked. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_for_the_disk(void) {
    int trace = open(getenv("SLOW_DISK_TRACE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trace < 0 || write(trace, "sync\n", 5) != 5)
        abort();
    close(trace);
    long long us = atoll(getenv("SLOW_DISK_US"));
    struct timespec left = { us / 1000000, us % 1000000 * 1000 };
    while (nanosleep(&left, &left) != 0)
        ;
}

int fsync(int file) {
    wait_for_the_disk();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}

int fdatasync(int file) {
    wait_for_the_disk();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
}
