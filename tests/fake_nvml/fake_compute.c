/* MIG: compute instances, and the MIG devices that stand for them. */
#include "fake_mig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  unsigned id, slices, instances, multiprocessors, shared[5];
} compute_profile_info;

typedef struct {
  unsigned version;
  compute_profile_info info;
  char name[96];
} compute_profile_info_v2;

typedef struct {
  handle device, instance;
  unsigned id, profile_id;
  placement where;
} compute_info;

typedef struct {
  unsigned multiprocessors, shared[5], instance_slices, compute_slices;
  unsigned long long memory_mb;
} attributes;

/* Slices of each compute-instance profile, by its number (which is its id too). */
static const int compute_slices[COMPUTE_PROFILES] = {1, 2, 3, 4, 7, 8, 6, 0, 0};

static nvml_return compute_profile(const profile *p, unsigned number, unsigned engine, compute_profile_info *info) {
  if (number >= COMPUTE_PROFILES || engine != 0) return INVALID_ARGUMENT;
  int slices = compute_slices[number];
  if (slices == 0 || slices > p->slices) return NOT_SUPPORTED;
  *info = (compute_profile_info){.id = number, .slices = (unsigned)slices};
  info->instances = (unsigned)(p->slices / slices);
  info->multiprocessors = (unsigned)(p->engines[0] * slices / p->slices);
  for (int kind = 1; kind < KINDS; kind++) info->shared[kind - 1] = (unsigned)p->engines[kind];
  return OK;
}

EXPORT nvml_return nvmlGpuInstanceGetComputeInstanceProfileInfo(handle instance, unsigned wanted, unsigned engine,
                                                                compute_profile_info *info) {
  ON_INSTANCE(instance);
  LEAVE(compute_profile(&p, wanted, engine, info));
}

EXPORT nvml_return nvmlGpuInstanceGetComputeInstanceProfileInfoV(handle instance, unsigned wanted, unsigned engine,
                                                                 compute_profile_info_v2 *info) {
  ON_INSTANCE(instance);
  LEAVE_IF(info->version == 0x02000088 || info->version == 0x03000088 ? OK : ARGUMENT_VERSION_MISMATCH);
  LEAVE_IF(compute_profile(&p, wanted, engine, &info->info));
  if ((int)info->info.slices == p.slices)
    snprintf(info->name, sizeof info->name, "MIG %s", p.name);
  else
    snprintf(info->name, sizeof info->name, "MIG %uc.%s", info->info.slices, p.name);
  LEAVE(OK);
}

/* Bitmask of the compute slices of an instance that are taken. */
static unsigned taken(int gpu, int instance) {
  unsigned mask = 0;
  for (int id = 0; id < 16; id++) {
    int start, slices;
    const char *text = value_of("gpu.%d.ci.%d.%d", gpu, instance, id);
    if (text && sscanf(text, "%*d %d %d", &start, &slices) == 2) mask |= ((1u << slices) - 1) << start;
  }
  return mask;
}

EXPORT nvml_return nvmlGpuInstanceGetComputeInstanceRemainingCapacity(handle instance, unsigned wanted,
                                                                      unsigned *left) {
  ON_INSTANCE(instance);
  compute_profile_info info;
  LEAVE_IF(compute_profile(&p, wanted, 0, &info));
  *left = (unsigned)(p.slices - __builtin_popcount(taken(gpu, instance_part(instance)))) / info.slices;
  LEAVE(OK);
}

EXPORT nvml_return nvmlGpuInstanceGetComputeInstancePossiblePlacements(handle instance, unsigned wanted,
                                                                       placement *places, unsigned *known) {
  ON_INSTANCE(instance);
  compute_profile_info info;
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  LEAVE_IF(compute_profile(&p, wanted, 0, &info));
  unsigned found = 0;
  for (unsigned at = 0; at + info.slices <= (unsigned)p.slices; at += info.slices, found++)
    if (places) places[found] = (placement){at, info.slices};
  *known = found;
  LEAVE(OK);
}

static int free_mig_index(int gpu) {
  for (int index = 0;; index++) {
    char prefix[64];
    int used = 0, other;
    const char *key;
    snprintf(prefix, sizeof prefix, "gpu.%d.ci.", gpu);
    for (int n = 0; (key = key_at(prefix, n)); n++)
      used |= sscanf(value_of("%s", key), "%*d %*d %*d %d", &other) == 1 && other == index;
    if (!used) return index;
  }
}

static nvml_return create_compute(int gpu, int owner, const profile *p, unsigned wanted, int start,
                                  handle *compute) {
  compute_profile_info info;
  nvml_return answer = compute_profile(p, wanted, 0, &info);
  if (answer != OK) return answer;
  unsigned slices = (1u << info.slices) - 1, used = taken(gpu, owner);
  int at = start >= 0 ? start : 0;
  while (start < 0 && at + (int)info.slices <= p->slices && (used & slices << at)) at++;
  if (at + (int)info.slices > p->slices) return start < 0 ? INSUFFICIENT_RESOURCES : INVALID_ARGUMENT;
  if (used & slices << at) return INSUFFICIENT_RESOURCES;
  int id = 0;
  while (value_of("gpu.%d.ci.%d.%d", gpu, owner, id)) id++;
  const char *made = value_of("made");
  unsigned serial = made ? (unsigned)atoi(made) + 1 : 1;
  const char *uuid = value_of("gpu.%d.uuid", gpu);
  char key[64];
  set_value("made", "%u", serial);
  snprintf(key, sizeof key, "gpu.%d.ci.%d.%d", gpu, owner, id);
  /* A fresh UUID each time, so that nobody comes to rely on an old one. */
  set_value(key, "%u %d %u %d MIG-%.23s-%04x%08x", info.id, at, info.slices, free_mig_index(gpu), uuid + 4,
            (unsigned)(owner << 4 | id), serial);
  *compute = make_handle(COMPUTE_TAG, gpu, owner, id);
  return OK;
}

EXPORT nvml_return nvmlGpuInstanceCreateComputeInstance(handle instance, unsigned wanted, handle *compute) {
  ON_INSTANCE(instance);
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  LEAVE(create_compute(gpu, instance_part(instance), &p, wanted, -1, compute));
}

EXPORT nvml_return nvmlGpuInstanceCreateComputeInstanceWithPlacement(handle instance, unsigned wanted,
                                                                     const placement *where, handle *compute) {
  ON_INSTANCE(instance);
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  LEAVE(create_compute(gpu, instance_part(instance), &p, wanted, (int)where->start, compute));
}

#define ON_COMPUTE(value)                                                                                    \
  ON_GPU(value);                                                                                             \
  int owner = instance_part(value), id = compute_part(value);                                                \
  unsigned made_of, start, slices, mig_index;                                                                \
  const char *text = value_of("gpu.%d.ci.%d.%d", gpu, owner, id);                                            \
  LEAVE_IF(text ? OK : INVALID_ARGUMENT);                                                                    \
  sscanf(text, "%u %u %u %u", &made_of, &start, &slices, &mig_index)

EXPORT nvml_return nvmlComputeInstanceDestroy(handle compute) {
  ON_COMPUTE(compute);
  char key[64];
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  LEAVE_IF(value_of("gpu.%d.busy.%d", gpu, owner) ? IN_USE : OK);
  snprintf(key, sizeof key, "gpu.%d.ci.%d.%d", gpu, owner, id);
  remove_value(key);
  LEAVE(OK);
}

EXPORT nvml_return nvmlGpuInstanceGetComputeInstances(handle instance, unsigned wanted, handle *list,
                                                      unsigned *known) {
  ON_INSTANCE(instance);
  compute_profile_info info;
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  LEAVE_IF(compute_profile(&p, wanted, 0, &info));
  *known = 0;
  for (int id = 0; id < 16; id++) {
    const char *own = value_of("gpu.%d.ci.%d.%d", gpu, instance_part(instance), id);
    if (own && atoi(own) == (int)wanted) list[(*known)++] = make_handle(COMPUTE_TAG, gpu, instance_part(instance), id);
  }
  LEAVE(OK);
}

EXPORT nvml_return nvmlGpuInstanceGetComputeInstanceById(handle instance, unsigned id, handle *compute) {
  ON_INSTANCE(instance);
  LEAVE_IF(privileged() ? OK : NO_PERMISSION);
  LEAVE_IF(value_of("gpu.%d.ci.%d.%u", gpu, instance_part(instance), id) ? OK : NOT_FOUND);
  *compute = make_handle(COMPUTE_TAG, gpu, instance_part(instance), (int)id);
  LEAVE(OK);
}

EXPORT nvml_return nvmlComputeInstanceGetInfo_v2(handle compute, compute_info *info) {
  ON_COMPUTE(compute);
  *info = (compute_info){make_handle(GPU_TAG, gpu, 0, 0), make_handle(INSTANCE_TAG, gpu, owner, 0), (unsigned)id,
                         made_of, {start, slices}};
  LEAVE(OK);
}

/* ---- MIG devices: one for each compute instance */

EXPORT nvml_return nvmlDeviceIsMigDeviceHandle(handle device, unsigned *is_mig) {
  ON_GPU(device);
  *is_mig = tag_of(device) == MIG_TAG;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetMaxMigDeviceCount(handle device, unsigned *most) {
  ON_GPU(device);
  *most = mig_on(gpu) ? MOST_MIG_DEVICES : 0;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetMigDeviceHandleByIndex(handle device, unsigned index, handle *mig) {
  ON_GPU(device);
  char prefix[64];
  const char *key;
  LEAVE_IF(index < MOST_MIG_DEVICES ? OK : INVALID_ARGUMENT);
  LEAVE_IF(mig_on(gpu) ? OK : NOT_FOUND);
  snprintf(prefix, sizeof prefix, "gpu.%d.ci.", gpu);
  for (int n = 0; (key = key_at(prefix, n)); n++) {
    int owner, id, own;
    sscanf(key + strlen(prefix), "%d.%d", &owner, &id);
    sscanf(value_of("%s", key), "%*d %*d %*d %d", &own);
    if (own != (int)index) continue;
    *mig = make_handle(MIG_TAG, gpu, owner, id);
    LEAVE(OK);
  }
  LEAVE(NOT_FOUND);
}

EXPORT nvml_return nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle mig, handle *device) {
  ON_COMPUTE(mig);
  *device = make_handle(GPU_TAG, gpu, 0, 0);
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetGpuInstanceId(handle mig, unsigned *number) {
  ON_COMPUTE(mig);
  *number = (unsigned)owner;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetComputeInstanceId(handle mig, unsigned *number) {
  ON_COMPUTE(mig);
  *number = (unsigned)id;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetAttributes_v2(handle mig, attributes *answer) {
  ON_COMPUTE(mig);
  profile p;
  const char *live_text = value_of("gpu.%d.gi.%d", gpu, owner);
  LEAVE_IF(live_text && read_profile(gpu, atoi(live_text), &p) ? OK : INVALID_ARGUMENT);
  memset(answer, 0, sizeof *answer);
  answer->multiprocessors = (unsigned)(p.engines[0] * (int)slices / p.slices);
  answer->instance_slices = (unsigned)p.slices;
  answer->compute_slices = slices;
  answer->memory_mb = p.mebibytes;
  LEAVE(OK);
}
