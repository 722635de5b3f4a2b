/* MIG: mode, GPU-instance profiles and placements, GPU instances, with the rules that NVML applies. */
#include "fake_mig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  unsigned id, p2p, slices, instances, engines[KINDS];
  unsigned long long memory_mb;
} profile_info;

typedef struct {
  unsigned version, id, p2p, slices, instances, engines[KINDS];
  unsigned long long memory_mb;
  char name[96];
} profile_info_v2;

typedef struct {
  handle device;
  unsigned id, profile_id;
  placement where;
} instance_info;

int read_profile(int gpu, int number, profile *p) {
  const char *text = value_of("gpu.%d.profile.%d", gpu, number);
  p->number = number;
  return text && sscanf(text, "%d %d %d %d %d %d %d %d %d %llu %d %127s %63s", &p->id, &p->slices, &p->instances,
                        &p->engines[0], &p->engines[1], &p->engines[2], &p->engines[3], &p->engines[4],
                        &p->engines[5], &p->mebibytes, &p->size, p->starts, p->name) == 13;
}

static int profile_by_id(int gpu, unsigned id, profile *p) {
  for (int number = 0; number < PROFILES; number++)
    if (read_profile(gpu, number, p) && p->id == (int)id) return 1;
  return 0;
}

static int starts_of(const profile *p, int *starts) {
  int number = 0;
  for (const char *at = p->starts; at && number < MOST_UNITS; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
    starts[number++] = atoi(at);
  return number;
}

int mig_on(int gpu) {
  unsigned long long mode;
  return gpu_number(gpu, "mig_current", &mode) == OK && mode;
}

/* The GPU instances of a card: fills ids and their texts' three numbers; returns how many. */
static int live(int gpu, int *ids, int (*facts)[3]) {
  int found = 0;
  for (int id = 0; id < 64; id++) {
    const char *text = value_of("gpu.%d.gi.%d", gpu, id);
    if (!text) continue;
    sscanf(text, "%d %d %d", &facts[found][0], &facts[found][1], &facts[found][2]);
    ids[found++] = id;
  }
  return found;
}

EXPORT nvml_return nvmlDeviceGetMigMode(handle device, unsigned *current, unsigned *pending) {
  ON_GPU(device);
  unsigned long long now, next;
  LEAVE_IF(gpu_number(gpu, "mig_current", &now));
  *current = *pending = (unsigned)now;
  if (gpu_number(gpu, "mig_pending", &next) == OK) *pending = (unsigned)next;
  LEAVE(OK);
}

/* A card that needs a reset for it (Ampere) keeps its mode until then. */
EXPORT nvml_return nvmlDeviceSetMigMode(handle device, unsigned mode, nvml_return *activation) {
  ON_GPU(device);
  unsigned long long now;
  LEAVE_IF(mode <= 1 ? OK : INVALID_ARGUMENT);
  LEAVE_IF(gpu_number(gpu, "mig_current", &now));
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  char key[64];
  snprintf(key, sizeof key, "gpu.%d.gi.", gpu);
  *activation = OK;
  if (now != mode && key_at(key, 0)) *activation = IN_USE;
  if (now != mode && value_of("gpu.%d.mig_needs_reset", gpu)) *activation = RESET_REQUIRED;
  snprintf(key, sizeof key, "gpu.%d.mig_pending", gpu);
  if (*activation != IN_USE) set_value(key, "%u", mode);
  snprintf(key, sizeof key, "gpu.%d.mig_current", gpu);
  if (*activation == OK) set_value(key, "%u", mode);
  LEAVE(OK);
}

static nvml_return offered(int gpu, unsigned number, profile *p) {
  unsigned long long mode;
  if (number >= PROFILES) return INVALID_ARGUMENT;
  if (gpu_number(gpu, "mig_current", &mode) != OK) return NOT_SUPPORTED;
  return read_profile(gpu, (int)number, p) ? OK : NOT_SUPPORTED;
}

EXPORT nvml_return nvmlDeviceGetGpuInstanceProfileInfo(handle device, unsigned number, profile_info *info) {
  ON_GPU(device);
  profile p;
  LEAVE_IF(offered(gpu, number, &p));
  *info = (profile_info){.id = p.id, .slices = p.slices, .instances = p.instances, .memory_mb = p.mebibytes};
  for (int kind = 0; kind < KINDS; kind++) info->engines[kind] = p.engines[kind];
  LEAVE(OK);
}

static nvml_return versioned(const profile *p, profile_info_v2 *info) {
  unsigned version = info->version;
  if (version != 0x02000098 && version != 0x03000098) return ARGUMENT_VERSION_MISMATCH;
  *info = (profile_info_v2){
      .version = version, .id = p->id, .slices = p->slices, .instances = p->instances, .memory_mb = p->mebibytes};
  for (int kind = 0; kind < KINDS; kind++) info->engines[kind] = p->engines[kind];
  if (!value_of("profiles_without_names")) snprintf(info->name, sizeof info->name, "MIG %s", p->name);
  return OK;
}

EXPORT nvml_return nvmlDeviceGetGpuInstanceProfileInfoV(handle device, unsigned number, profile_info_v2 *info) {
  ON_GPU(device);
  profile p;
  LEAVE_IF(offered(gpu, number, &p));
  LEAVE(versioned(&p, info));
}

EXPORT nvml_return nvmlDeviceGetGpuInstanceProfileInfoByIdV(handle device, unsigned id, profile_info_v2 *info) {
  ON_GPU(device);
  profile p;
  LEAVE_IF(profile_by_id(gpu, id, &p) ? OK : NOT_SUPPORTED);
  LEAVE(versioned(&p, info));
}

/* Whether MIG is on does not matter here, the header says; the right to ask does. */
EXPORT nvml_return nvmlDeviceGetGpuInstancePossiblePlacements_v2(handle device, unsigned id, placement *places,
                                                                 unsigned *number) {
  ON_GPU(device);
  profile p;
  int starts[MOST_UNITS];
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  LEAVE_IF(profile_by_id(gpu, id, &p) ? OK : NOT_SUPPORTED);
  int known = starts_of(&p, starts);
  if (places) {
    LEAVE_IF(*number >= (unsigned)known ? OK : INSUFFICIENT_SIZE);
    for (int i = 0; i < known; i++) places[i] = (placement){(unsigned)starts[i], (unsigned)p.size};
  }
  *number = (unsigned)known;
  LEAVE(OK);
}

/* Why an instance cannot be there: overlap, too many of the profile, engines used up. */
static int fits(int gpu, const profile *wanted, int start) {
  int ids[64], facts[64][3], same = 0, used[KINDS] = {0}, most[KINDS] = {0};
  int known = live(gpu, ids, facts);
  profile p;
  for (int i = 0; i < known; i++) {
    if (start < facts[i][1] + facts[i][2] && facts[i][1] < start + wanted->size) return 0;
    same += facts[i][0] == wanted->number;
    if (read_profile(gpu, facts[i][0], &p))
      for (int kind = 0; kind < KINDS; kind++) used[kind] += p.engines[kind];
  }
  if (same >= wanted->instances) return 0;
  for (int number = 0; number < PROFILES; number++)
    if (read_profile(gpu, number, &p))
      for (int kind = 0; kind < KINDS; kind++)
        if (p.engines[kind] > most[kind]) most[kind] = p.engines[kind];
  for (int kind = 0; kind < KINDS; kind++)
    if (used[kind] + wanted->engines[kind] > most[kind]) return 0;
  return 1;
}

EXPORT nvml_return nvmlDeviceGetGpuInstanceRemainingCapacity(handle device, unsigned id, unsigned *number) {
  ON_GPU(device);
  profile p;
  int starts[MOST_UNITS];
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  LEAVE_IF(mig_on(gpu) && profile_by_id(gpu, id, &p) ? OK : NOT_SUPPORTED);
  int known = starts_of(&p, starts), next = 0;
  *number = 0;
  for (int i = 0; i < known; i++)
    if (starts[i] >= next && fits(gpu, &p, starts[i])) {
      ++*number;
      next = starts[i] + p.size;
    }
  LEAVE(OK);
}

/* Ids grow with smaller profiles, as cards number them: the whole is 0, halves from 1, quarters from 3. */
static int new_id(int gpu, const profile *p) {
  int id = p->slices >= 6 ? 0 : p->slices >= 3 ? 1 : p->slices == 2 ? 3 : 7;
  while (value_of("gpu.%d.gi.%d", gpu, id)) id++;
  return id;
}

static nvml_return may_create(int gpu, unsigned id, profile *p) {
  if (!privileged()) return NO_PERMISSION;
  if (!mig_on(gpu)) return NOT_SUPPORTED;
  return profile_by_id(gpu, id, p) ? OK : INVALID_ARGUMENT;
}

static void create(int gpu, const profile *p, int start, handle *instance) {
  char key[64];
  int id = new_id(gpu, p);
  snprintf(key, sizeof key, "gpu.%d.gi.%d", gpu, id);
  set_value(key, "%d %d %d", p->number, start, p->size);
  *instance = make_handle(INSTANCE_TAG, gpu, id, 0);
}

EXPORT nvml_return nvmlDeviceCreateGpuInstanceWithPlacement(handle device, unsigned id, const placement *where,
                                                            handle *instance) {
  ON_GPU(device);
  profile p;
  int starts[MOST_UNITS], legal = 0;
  LEAVE_IF(where && instance ? OK : INVALID_ARGUMENT);
  LEAVE_IF(may_create(gpu, id, &p));
  int known = starts_of(&p, starts);
  for (int i = 0; i < known; i++) legal |= starts[i] == (int)where->start && p.size == (int)where->size;
  LEAVE_IF(legal ? OK : INVALID_ARGUMENT);
  LEAVE_IF(fits(gpu, &p, (int)where->start) ? OK : INSUFFICIENT_RESOURCES);
  create(gpu, &p, (int)where->start, instance);
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceCreateGpuInstance(handle device, unsigned id, handle *instance) {
  ON_GPU(device);
  profile p;
  int starts[MOST_UNITS];
  LEAVE_IF(may_create(gpu, id, &p));
  for (int i = starts_of(&p, starts) - 1; i >= 0; i--)
    if (fits(gpu, &p, starts[i])) {
      create(gpu, &p, starts[i], instance);
      LEAVE(OK);
    }
  LEAVE(INSUFFICIENT_RESOURCES);
}

EXPORT nvml_return nvmlGpuInstanceDestroy(handle instance) {
  ON_INSTANCE(instance);
  char key[64];
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  snprintf(key, sizeof key, "gpu.%d.ci.%d.", gpu, instance_part(instance));
  LEAVE_IF(key_at(key, 0) ? IN_USE : OK);
  snprintf(key, sizeof key, "gpu.%d.gi.%d", gpu, instance_part(instance));
  remove_value(key);
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetGpuInstances(handle device, unsigned id, handle *instances, unsigned *number) {
  ON_GPU(device);
  profile p;
  int ids[64], facts[64][3];
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  LEAVE_IF(mig_on(gpu) && profile_by_id(gpu, id, &p) ? OK : NOT_SUPPORTED);
  int known = live(gpu, ids, facts);
  *number = 0;
  for (int i = 0; i < known; i++)
    if (facts[i][0] == p.number) instances[(*number)++] = make_handle(INSTANCE_TAG, gpu, ids[i], 0);
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetGpuInstanceById(handle device, unsigned id, handle *instance) {
  ON_GPU(device);
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  LEAVE_IF(mig_on(gpu) ? OK : NOT_SUPPORTED);
  LEAVE_IF(value_of("gpu.%d.gi.%u", gpu, id) ? OK : NOT_FOUND);
  *instance = make_handle(INSTANCE_TAG, gpu, (int)id, 0);
  LEAVE(OK);
}

EXPORT nvml_return nvmlGpuInstanceGetInfo(handle instance, instance_info *info) {
  ON_INSTANCE(instance);
  *info = (instance_info){make_handle(GPU_TAG, gpu, 0, 0), (unsigned)instance_part(instance), (unsigned)p.id,
                          {(unsigned)start, (unsigned)size}};
  LEAVE(OK);
}
