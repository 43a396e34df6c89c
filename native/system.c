/* One section per operating system. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE /* madvise */
#include "system.h"

#ifdef _WIN32

#include <malloc.h>
#include <process.h>

void *slm_alloc_aligned(size_t bytes) { return _aligned_malloc(bytes, 64); }

void *slm_alloc_huge(size_t bytes) { return slm_alloc_aligned(bytes); }

void slm_free_aligned(void *memory) { _aligned_free(memory); }

void slm_map_pages(const void *start, size_t bytes) { (void)start, (void)bytes; }

int64_t slm_now_ns(void) {
    LARGE_INTEGER count, per_s;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&per_s);
    int64_t s = count.QuadPart / per_s.QuadPart, rest = count.QuadPart % per_s.QuadPart;
    return s * 1000000000 + rest * 1000000000 / per_s.QuadPart;
}

int64_t slm_process(void) { return GetCurrentProcessId(); }

int slm_processors(void) { return (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS); }

void slm_mutex_open(slm_mutex *mutex) { InitializeSRWLock(mutex); }
void slm_mutex_close(slm_mutex *mutex) { (void)mutex; }
void slm_mutex_lock(slm_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
void slm_mutex_unlock(slm_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }

void slm_condition_open(slm_condition *condition) { InitializeConditionVariable(condition); }
void slm_condition_close(slm_condition *condition) { (void)condition; }
void slm_condition_wait(slm_condition *condition, slm_mutex *mutex) { SleepConditionVariableSRW(condition, mutex, INFINITE, 0); }

int slm_condition_wait_ns(slm_condition *condition, slm_mutex *mutex, int64_t ns) {
    return SleepConditionVariableSRW(condition, mutex, (DWORD)(ns / 1000000), 0) != 0;
}

void slm_condition_wake_one(slm_condition *condition) { WakeConditionVariable(condition); }
void slm_condition_wake_all(slm_condition *condition) { WakeAllConditionVariable(condition); }

static unsigned __stdcall run(void *argument) {
    slm_thread *thread = argument;
    thread->run(thread->argument);
    return 0;
}

int slm_thread_start(slm_thread *thread) {
    thread->handle = (HANDLE)_beginthreadex(NULL, 0, run, thread, 0, NULL);
    return thread->handle != NULL;
}

void slm_thread_join(slm_thread *thread) {
    WaitForSingleObject(thread->handle, INFINITE);
    CloseHandle(thread->handle);
}

#else

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

void *slm_alloc_aligned(size_t bytes) { return bytes > SIZE_MAX - 63 ? NULL : aligned_alloc(64, (bytes + 63) / 64 * 64); }

void *slm_alloc_huge(size_t bytes) {
#ifdef MADV_HUGEPAGE
    const size_t page = 2 << 20; /* of x86 and of ARM with small pages of 4 KB; others pay no attention */
    if (bytes < page || bytes > SIZE_MAX - page) return slm_alloc_aligned(bytes);
    bytes = (bytes + page - 1) / page * page;
    void *memory = aligned_alloc(page, bytes);
    if (memory) (void)madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
#else
    return slm_alloc_aligned(bytes);
#endif
}

void slm_free_aligned(void *memory) { free(memory); }

void slm_map_pages(const void *start, size_t bytes) {
#ifdef __linux__
    const int populate_read = 22; /* MADV_POPULATE_READ, of Linux 5.14; older ones refuse it */
    size_t before = (uintptr_t)start % (size_t)sysconf(_SC_PAGESIZE);
    (void)madvise((char *)(uintptr_t)start - before, bytes + before, populate_read);
#else
    (void)start, (void)bytes;
#endif
}

int64_t slm_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

int64_t slm_process(void) { return getpid(); }

int slm_processors(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

void slm_mutex_open(slm_mutex *mutex) { pthread_mutex_init(mutex, NULL); }
void slm_mutex_close(slm_mutex *mutex) { pthread_mutex_destroy(mutex); }
void slm_mutex_lock(slm_mutex *mutex) { pthread_mutex_lock(mutex); }
void slm_mutex_unlock(slm_mutex *mutex) { pthread_mutex_unlock(mutex); }

void slm_condition_open(slm_condition *condition) { pthread_cond_init(condition, NULL); }
void slm_condition_close(slm_condition *condition) { pthread_cond_destroy(condition); }
void slm_condition_wait(slm_condition *condition, slm_mutex *mutex) { pthread_cond_wait(condition, mutex); }

int slm_condition_wait_ns(slm_condition *condition, slm_mutex *mutex, int64_t ns) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    int64_t nsec = until.tv_nsec + ns;
    until.tv_sec += (time_t)(nsec / SECOND);
    until.tv_nsec = (long)(nsec % SECOND);
    return pthread_cond_timedwait(condition, mutex, &until) == 0;
}

void slm_condition_wake_one(slm_condition *condition) { pthread_cond_signal(condition); }
void slm_condition_wake_all(slm_condition *condition) { pthread_cond_broadcast(condition); }

static void *run(void *argument) {
    slm_thread *thread = argument;
    thread->run(thread->argument);
    return NULL;
}

int slm_thread_start(slm_thread *thread) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = pthread_create(&thread->handle, NULL, run, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status == 0;
}

void slm_thread_join(slm_thread *thread) { pthread_join(thread->handle, NULL); }

#endif
