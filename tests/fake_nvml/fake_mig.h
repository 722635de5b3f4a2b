/* Profiles and instances, shared by the two halves of MIG. What the keys of the state file hold:
 *
 * gpu.<n>.mig_current / mig_pending  0 or 1; absent: the card has no MIG
 * gpu.<n>.profile.<enum>             "id slices instances sms ces decs encs jpegs ofas mib size starts name"
 * gpu.<n>.gi.<id>                    "enum start size"
 * gpu.<n>.ci.<gi>.<id>               "profile start slices mig_index uuid"
 * gpu.<n>.busy.<gi>                  present: a process runs in the instance
 */
#ifndef FAKE_MIG_H
#define FAKE_MIG_H

#include "fake_state.h"

enum { PROFILES = 0x12, COMPUTE_PROFILES = 9, MOST_UNITS = 16, MOST_MIG_DEVICES = 7, KINDS = 6 };

typedef struct {
  unsigned start, size;
} placement;

typedef struct {
  int number, id, slices, instances, engines[KINDS], size;
  unsigned long long mebibytes;
  char starts[128], name[64];
} profile;

int read_profile(int gpu, int number, profile *p);
int mig_on(int gpu);

#define ON_GPU(device)                                                                                       \
  int gpu;                                                                                                   \
  ENTER();                                                                                                   \
  LEAVE_IF(find_gpu(__func__, (device), &gpu))

#define ON_INSTANCE(value)                                                                                   \
  ON_GPU(value);                                                                                             \
  const char *text = value_of("gpu.%d.gi.%d", gpu, instance_part(value));                                    \
  LEAVE_IF(tag_of(value) == INSTANCE_TAG && text ? OK : INVALID_ARGUMENT);                                   \
  int number, start, size;                                                                                   \
  sscanf(text, "%d %d %d", &number, &start, &size);                                                          \
  profile p;                                                                                                 \
  LEAVE_IF(read_profile(gpu, number, &p) ? OK : UNKNOWN)

#endif
