/* The state file of fake_nvml.c: read when it has changed, looked up by key, and the troubles that it asks for. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15, VERSION_MISMATCH = 25,
    UNKNOWN = 999
};
enum { TYPE_UINT = 1, TYPE_ULONGLONG = 3 };
enum { MAX_GPUS = 64, MAX_HANDLES = 8, KEY_BYTES = 128, VALUE_BYTES = 2048, POLL_MILLISECONDS = 20, NO_GPU = -1 };

typedef int ret;
typedef struct device { int index; int is_open; int slice; } *device_t; /* slice: 0 the chip, k its k-th MIG slice */

static struct device devices[MAX_GPUS * MAX_HANDLES];
static int references;
static __thread char *text; /* the state as last read by this thread */
static __thread struct stat text_from;

/* ---- the state file ---------------------------------------------------------------------------- */

static const char *state_path(void) { return getenv("CHIPMEDIC_SIMULATOR_NVML_STATE"); }

/* An edit replaces the file, so the same inode with the same times is the same state. */
static int load(void) {
    struct stat now;
    const char *path = state_path();
    if (!path || stat(path, &now))
        return 0;
    if (text && now.st_ino == text_from.st_ino && now.st_size == text_from.st_size &&
        now.st_mtim.tv_sec == text_from.st_mtim.tv_sec && now.st_mtim.tv_nsec == text_from.st_mtim.tv_nsec)
        return 1;
    FILE *file = fopen(path, "r");
    if (!file || fstat(fileno(file), &text_from))
        return 0;
    size_t capacity = 8192, size = 0, got;
    text = realloc(text, capacity);
    while ((got = fread(text + size, 1, capacity - size - 1, file)) > 0)
        if ((size += got) == capacity - 1)
            text = realloc(text, capacity *= 2);
    text[size] = 0;
    fclose(file);
    return 1;
}

static int find(const char *key, char *value) {
    size_t length = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, key, length) && line[length] == '=') {
            size_t size = strcspn(line + length + 1, "\n");
            if (size >= VALUE_BYTES)
                size = VALUE_BYTES - 1;
            memcpy(value, line + length + 1, size);
            value[size] = 0;
            return 1;
        }
    return 0;
}

static int find_for(int gpu, const char *key, char *value) {
    char full[KEY_BYTES];
    snprintf(full, sizeof full, "gpu.%d.%s", gpu, key);
    if (find(full, value))
        return 1;
    snprintf(full, sizeof full, "gpu.*.%s", key);
    return find(full, value);
}

static int find_link(int gpu, unsigned link, const char *key, char *value) {
    char full[KEY_BYTES];
    snprintf(full, sizeof full, "link.%u.%s", link, key);
    if (find_for(gpu, full, value))
        return 1;
    snprintf(full, sizeof full, "link.*.%s", key);
    return find_for(gpu, full, value);
}

static unsigned long long number(const char *key, unsigned long long otherwise) {
    char value[VALUE_BYTES];
    return find(key, value) ? strtoull(value, NULL, 0) : otherwise;
}

static unsigned long long number_for(int gpu, const char *key, unsigned long long otherwise) {
    char value[VALUE_BYTES];
    return find_for(gpu, key, value) ? strtoull(value, NULL, 0) : otherwise;
}

static double trouble(const char *what, const char *symbol, int gpu) {
    char key[KEY_BYTES], value[VALUE_BYTES];
    snprintf(key, sizeof key, "%s.%s.%d", what, symbol, gpu);
    if (gpu != NO_GPU && find(key, value))
        return strtod(value, NULL);
    snprintf(key, sizeof key, "%s.%s", what, symbol);
    return find(key, value) ? strtod(value, NULL) : 0;
}

static void nap(void) {
    struct timespec pause = {0, POLL_MILLISECONDS * 1000000L};
    nanosleep(&pause, NULL);
}

/* Watches the folder of the state file; -1: it cannot be watched. */
static int watch_state(void) {
    char folder[4096];
    const char *path = state_path(), *slash = path ? strrchr(path, '/') : NULL;
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (watch >= 0 && inotify_add_watch(watch, folder, IN_MOVED_TO | IN_CLOSE_WRITE) < 0) {
        close(watch);
        return -1;
    }
    return watch;
}

/* Sleeps until the folder changes or the time is over, as a driver does in which nothing happens. */
static void sleep_until_changed(int watch, double seconds) {
    char events[4096];
    struct pollfd wanted = {watch, POLLIN, 0};
    if (watch < 0) {
        nap();
        return;
    }
    poll(&wanted, 1, seconds > 0 ? (int)(seconds * 1e3) + 1 : 0);
    while (read(watch, events, sizeof events) > 0)
        ;
}

static double monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* What every call does first: hang, crash or fail as the state says. */
static ret enter(const char *symbol, int gpu) {
    double began = monotonic();
    if (!load())
        return DRIVER_NOT_LOADED;
    while (monotonic() - began < trouble("hang", symbol, gpu)) {
        nap();
        load();
    }
    if (trouble("crash", symbol, gpu))
        abort();
    return (ret)trouble("fail", symbol, gpu);
}

static ret enter_library(const char *symbol) {
    ret code = enter(symbol, NO_GPU);
    return code ? code : references > 0 ? SUCCESS : UNINITIALIZED;
}

static ret enter_device(const char *symbol, device_t device) {
    if (device < devices || device >= devices + MAX_GPUS * MAX_HANDLES)
        return INVALID_ARGUMENT;
    if (references <= 0)
        return UNINITIALIZED;
    ret code = enter(symbol, device->index);
    return code ? code : number_for(device->index, "lost", 0) ? GPU_IS_LOST : SUCCESS;
}
