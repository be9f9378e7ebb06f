// Many readers, more than a script could be, and cheaper. What they read goes into OUT, to be compared afterwards.
//
//   readers parts FILE OUT THREADS               each reads its part of the file from front to back, 128 KiB at a time
//   readers blocks FILE OUT THREADS FROM TO RATE   64 KiB blocks in a random order, of which these by number; RATE: so many a
//                                                second whether or not the ones before have come, 0: as fast as they come
//   readers files LIST OUT THREADS               whole files of at most 64 KiB, whose names are LIST's lines, 64 KiB of OUT each
//
// parts and files print the seconds from the first read to the last; blocks prints seconds, and the median, the 99th percentile and the
// longest in ms, counted from when a block was due.
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PART_READ = 128 << 10, BLOCK = 64 << 10 };

static const char *path;
static char *out;
static long size, threads, from, to, next_block;
static double rate, begun;
static long *order;
static char **names;
static double *taken;
static pthread_barrier_t gate;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int opened(void) {
    int file = open(path, O_RDONLY);
    if (file < 0) fail(path);
    return file;
}

static void read_all(int file, char *at, long count, long offset) {
    while (count > 0) {
        long got = pread(file, at, count, offset);
        if (got <= 0) fail("pread");
        at += got, offset += got, count -= got;
    }
}

static void *part(void *number) {
    long part = size / threads, start = (long)number * part, end = (long)number == threads - 1 ? size : start + part;
    int file = opened();
    pthread_barrier_wait(&gate);
    for (long at = start; at < end; at += PART_READ)
        read_all(file, out + at, end - at < PART_READ ? end - at : PART_READ, at);
    close(file);
    return NULL;
}

static void *blocks(void *unused) {
    int file = opened();
    pthread_barrier_wait(&gate);
    for (;;) {
        long at = __atomic_fetch_add(&next_block, 1, __ATOMIC_RELAXED);
        if (at >= to) break;
        double due = now();
        if (rate > 0) {
            due = begun + (at - from) / rate;
            double wait = due - now();
            if (wait > 0) usleep((useconds_t)(wait * 1e6));
        }
        read_all(file, out + (at - from) * BLOCK, BLOCK, order[at] * BLOCK);
        taken[at - from] = now() - due;
    }
    close(file);
    return unused;
}

static void *files(void *unused) {
    pthread_barrier_wait(&gate);
    for (;;) {
        long at = __atomic_fetch_add(&next_block, 1, __ATOMIC_RELAXED);
        if (at >= to) break;
        int file = open(names[at], O_RDONLY);
        if (file < 0) fail(names[at]);
        long done = 0, got;
        while ((got = read(file, out + at * BLOCK + done, BLOCK - done)) > 0) done += got;
        if (got < 0) fail(names[at]);
        close(file);
    }
    return unused;
}

static void read_names(const char *list) {
    FILE *lines = fopen(list, "r");
    if (!lines) fail(list);
    char line[4096];
    while (fgets(line, sizeof line, lines)) {
        line[strcspn(line, "\n")] = 0;
        names = realloc(names, (to + 1) * sizeof *names);
        names[to++] = strdup(line);
    }
    fclose(lines);
}

// The same order each time: Fisher and Yates, by Marsaglia's xorshift.
static void shuffle(long count) {
    unsigned long dice = 88172645463325252UL;
    order = malloc(count * sizeof *order);
    for (long at = 0; at < count; at++) order[at] = at;
    for (long at = count - 1; at > 0; at--) {
        dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
        long other = dice % (at + 1), held = order[at];
        order[at] = order[other], order[other] = held;
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(double *)a, y = *(double *)b;
    return x < y ? -1 : x > y;
}

static double run(void *(*work)(void *)) {
    pthread_t *all = malloc(threads * sizeof *all);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 << 10);
    pthread_barrier_init(&gate, NULL, threads + 1);
    for (long at = 0; at < threads; at++)
        if (pthread_create(&all[at], &small, work, (void *)at)) fail("pthread_create");
    begun = now() + 0.01;
    pthread_barrier_wait(&gate);
    double start = now();
    for (long at = 0; at < threads; at++) pthread_join(all[at], NULL);
    return now() - start;
}

int main(int count, char **words) {
    if (count < 5) return 2;
    int is_parts = !strcmp(words[1], "parts"), is_files = !strcmp(words[1], "files");
    path = words[2];
    threads = atol(words[4]);
    struct stat about;
    if (stat(path, &about)) fail(path);
    size = about.st_size;
    if (is_files) read_names(path);
    else if (!is_parts) {
        from = next_block = atol(words[5]), to = atol(words[6]), rate = atof(words[7]);
        shuffle(size / BLOCK);
        taken = calloc(to - from, sizeof *taken);
    }
    long bytes = is_parts ? size : (to - from) * BLOCK;
    int file = open(words[3], O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, bytes)) fail(words[3]);
    out = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    if (out == MAP_FAILED) fail("mmap");
    // Touched before the clock runs.
    for (long at = 0; at < bytes; at += 4096) out[at] = 0;
    double seconds = run(is_parts ? part : is_files ? files : blocks);
    if (is_parts || is_files) return printf("%f\n", seconds), 0;
    qsort(taken, to - from, sizeof *taken, ascending);
    printf("%f %f %f %f\n", seconds, taken[(to - from) / 2] * 1e3, taken[(to - from) * 99 / 100] * 1e3, taken[to - from - 1] * 1e3);
    for (long at = from; at < to; at++) printf("%ld\n", order[at]);
    return 0;
}
