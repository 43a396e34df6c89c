/* What the core needs of an operating system: aligned memory, time, locks and threads. Of POSIX or of Windows itself. */
#ifndef SLM_SYSTEM_H
#define SLM_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#include <windows.h>

typedef SRWLOCK slm_mutex;
typedef CONDITION_VARIABLE slm_condition;
typedef HANDLE slm_thread_handle;
#define SLM_MUTEX_INIT SRWLOCK_INIT
#else
#include <pthread.h>

typedef pthread_mutex_t slm_mutex;
typedef pthread_cond_t slm_condition;
typedef pthread_t slm_thread_handle;
#define SLM_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#endif

/* Memory at a multiple of 64, or NULL; to be given back by slm_free_aligned. */
void *slm_alloc_aligned(size_t bytes);
void slm_free_aligned(void *memory);

/* The same; of huge pages where there are many bytes and the system has such pages. */
void *slm_alloc_huge(size_t bytes);

/* Maps the pages of a mapped file that lie in [start, start + bytes), for reading, where the system has a call for it. */
void slm_map_pages(const void *start, size_t bytes);

/* Nanoseconds since some moment, never going back. */
int64_t slm_now_ns(void);

/* Differs between a process and its forks. */
int64_t slm_process(void);

/* Processors that are switched on. */
int slm_processors(void);

void slm_mutex_open(slm_mutex *mutex); /* SLM_MUTEX_INIT does the same for what is static */
void slm_mutex_close(slm_mutex *mutex);
void slm_mutex_lock(slm_mutex *mutex);
void slm_mutex_unlock(slm_mutex *mutex);

void slm_condition_open(slm_condition *condition);
void slm_condition_close(slm_condition *condition);
/* Both are called with the mutex locked, unlock it while they wait, and may return without cause. */
void slm_condition_wait(slm_condition *condition, slm_mutex *mutex);
int slm_condition_wait_ns(slm_condition *condition, slm_mutex *mutex, int64_t ns); /* 0 where that long has passed */
void slm_condition_wake_one(slm_condition *condition);
void slm_condition_wake_all(slm_condition *condition);

/* Stays where it is until it was joined. */
typedef struct slm_thread {
    void (*run)(void *argument);
    void *argument;
    slm_thread_handle handle;
} slm_thread;

/* Starts a thread with its run and argument set, which no signal interrupts: those belong to the threads of the host program. 0 on failure. */
int slm_thread_start(slm_thread *thread);
void slm_thread_join(slm_thread *thread);

#endif
