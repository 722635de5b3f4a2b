/* Event sets. event.<seq> = "gpu type data gi ci"; a set sees the events written after it was registered. */
#define _GNU_SOURCE
#include "fake_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_GPUS = 64, POLL_MILLISECONDS = 5 };

typedef struct {
  unsigned long long types[MOST_GPUS];
  int seen[MOST_GPUS], lost[MOST_GPUS];
} event_set;

typedef struct {
  handle device;
  unsigned long long type, data;
  unsigned instance, compute;
} event_data;

static int newest(void) {
  int last = 0;
  const char *key;
  for (int n = 0; (key = key_at("event.", n)); n++)
    if (atoi(key + 6) > last) last = atoi(key + 6);
  return last;
}

EXPORT nvml_return nvmlEventSetCreate(handle *set) {
  ENTER();
  *set = calloc(1, sizeof(event_set));
  LEAVE(*set ? OK : UNKNOWN);
}

EXPORT nvml_return nvmlEventSetFree(handle set) {
  ENTER();
  free(set);
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetSupportedEventTypes(handle device, unsigned long long *types) {
  int gpu;
  ENTER();
  LEAVE_IF(find_gpu(__func__, device, &gpu));
  LEAVE(gpu_number(gpu, "events", types));
}

EXPORT nvml_return nvmlDeviceRegisterEvents(handle device, unsigned long long types, handle set) {
  int gpu;
  unsigned long long offered;
  ENTER();
  LEAVE_IF(set ? OK : INVALID_ARGUMENT);
  LEAVE_IF(find_gpu(__func__, device, &gpu));
  LEAVE_IF(gpu_number(gpu, "events", &offered));
  LEAVE_IF(types & ~offered ? NOT_SUPPORTED : OK);
  event_set *own = set;
  own->types[gpu] |= types;
  own->seen[gpu] = newest();
  LEAVE(OK);
}

/* OK with an event, GPU_IS_LOST once for each card that fell off, TIMEOUT when there is nothing. */
static nvml_return next_event(event_set *set, event_data *data) {
  int best = 0;
  const char *key;
  for (int n = 0; (key = key_at("event.", n)); n++) {
    int sequence = atoi(key + 6), gpu;
    unsigned long long type, detail;
    unsigned instance, compute;
    if (sscanf(value_of("%s", key), "%d %llu %llu %u %u", &gpu, &type, &detail, &instance, &compute) != 5) continue;
    if (gpu >= MOST_GPUS || !(set->types[gpu] & type) || sequence <= set->seen[gpu]) continue;
    if (best && sequence > best) continue;
    best = sequence;
    *data = (event_data){make_handle(GPU_TAG, gpu, 0, 0), type, detail, instance, compute};
  }
  if (best) {
    set->seen[gpu_part(data->device)] = best;
    return OK;
  }
  for (int gpu = 0; gpu < MOST_GPUS; gpu++)
    if (set->types[gpu] && value_of("gpu.%d.lost", gpu) && !set->lost[gpu]) {
      set->lost[gpu] = 1;
      return GPU_IS_LOST;
    }
  return TIMEOUT;
}

EXPORT nvml_return nvmlEventSetWait_v2(handle set, event_data *data, unsigned milliseconds) {
  ENTER();
  LEAVE_IF(set && data ? OK : INVALID_ARGUMENT);
  nvml_return answer;
  for (unsigned waited = 0; (answer = next_event(set, data)) == TIMEOUT && waited < milliseconds;
       waited += POLL_MILLISECONDS)
    let_others_go(POLL_MILLISECONDS);
  LEAVE(answer);
}
