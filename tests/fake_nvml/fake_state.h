/* State of the fake NVML: a text file of "key<TAB>value" lines, shared by processes through a lock file. */
#ifndef FAKE_STATE_H
#define FAKE_STATE_H

#include <stdint.h>

typedef int nvml_return;
typedef void *handle;

enum {
  OK = 0,
  UNINITIALIZED = 1,
  INVALID_ARGUMENT = 2,
  NOT_SUPPORTED = 3,
  NO_PERMISSION = 4,
  NOT_FOUND = 6,
  INSUFFICIENT_SIZE = 7,
  TIMEOUT = 10,
  GPU_IS_LOST = 15,
  RESET_REQUIRED = 16,
  IN_USE = 19,
  INSUFFICIENT_RESOURCES = 23,
  ARGUMENT_VERSION_MISMATCH = 25,
  UNKNOWN = 999
};

#define EXPORT __attribute__((visibility("default")))

/* Takes the lock, reads the file when another process changed it, applies the faults of this symbol.
 * OK: go on, and end with leave(). Anything else: the lock is free again, return it. */
nvml_return enter(const char *symbol);
/* Writes the file when something was changed, frees the lock and gives the answer back. */
nvml_return leave(const char *symbol, nvml_return answer);

#define ENTER()                                                                                              \
  do {                                                                                                       \
    nvml_return refused_ = enter(__func__);                                                                  \
    if (refused_ != OK) return refused_;                                                                     \
  } while (0)
#define LEAVE(answer) return leave(__func__, (answer))
#define LEAVE_IF(answer)                                                                                     \
  do {                                                                                                       \
    nvml_return answer_ = (answer);                                                                          \
    if (answer_ != OK) LEAVE(answer_);                                                                       \
  } while (0)

/* Sleeps without the lock, then takes it again and reads what changed. Only between enter() and leave(). */
void let_others_go(int milliseconds);

/* Values; NULL where the key is absent. Keys are printf formats. Only between enter() and leave(). */
const char *value_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
void set_value(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));
void remove_value(const char *key);
/* The n-th key (from 0) that begins with prefix, or NULL. */
const char *key_at(const char *prefix, int n);

int gpu_count(void);
int privileged(void);

/* Handles carry their identity in their bits, so that they mean the same after the file was read again. */
enum { GPU_TAG = 1, MIG_TAG = 2, INSTANCE_TAG = 3, COMPUTE_TAG = 4 };
handle make_handle(int tag, int gpu, int instance, int compute);
int tag_of(handle value);
int gpu_part(handle value);
int instance_part(handle value);
int compute_part(handle value);

/* OK and *gpu, or what a call on that device answers: invalid, lost, not supported by this card. */
nvml_return find_gpu(const char *symbol, handle device, int *gpu);
/* A number among the facts of a GPU; NOT_SUPPORTED where it is absent. */
nvml_return gpu_number(int gpu, const char *fact, unsigned long long *number);
/* Copies text with its end; INSUFFICIENT_SIZE where it does not fit. */
nvml_return give_text(const char *text, char *buffer, unsigned length);

#endif
