/* What a GPU is: names, places, memory, power, health, NVLink, fabric. Facts come from the state file. */
#include "fake_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  char bus_id_legacy[16];
  unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
  char bus_id[32];
} pci_info;

typedef struct {
  unsigned long long total, free, used;
} memory_info;

typedef struct {
  unsigned version;
  unsigned long long total, reserved, free, used;
} memory_info_v2;

typedef struct {
  unsigned version;
  unsigned char cluster_uuid[16];
  nvml_return status;
  unsigned clique_id;
  unsigned state;
  unsigned health_mask;
  unsigned char health_summary;
} fabric_info;

typedef struct {
  unsigned field_id, scope_id;
  long long timestamp, latency;
  unsigned value_type;
  nvml_return answer;
  union {
    unsigned number;
    unsigned long long large;
  } value;
} field_value;

#define ON_GPU(device)                                                                                       \
  int gpu;                                                                                                   \
  ENTER();                                                                                                   \
  LEAVE_IF(find_gpu(__func__, (device), &gpu))

/* A call on a GPU that returns one number of its facts. */
#define NUMBER(function, fact, type)                                                                         \
  EXPORT nvml_return function(handle device, type *answer) {                                                 \
    ON_GPU(device);                                                                                          \
    unsigned long long number;                                                                               \
    LEAVE_IF(gpu_number(gpu, fact, &number));                                                                \
    *answer = (type)number;                                                                                  \
    LEAVE(OK);                                                                                               \
  }

NUMBER(nvmlDeviceGetMinorNumber, "minor", unsigned)
NUMBER(nvmlDeviceGetNumaNodeId, "numa", unsigned)
NUMBER(nvmlDeviceGetModuleId, "module", unsigned)
NUMBER(nvmlDeviceGetArchitecture, "architecture", unsigned)
NUMBER(nvmlDeviceGetPowerUsage, "power_milliwatts", unsigned)
NUMBER(nvmlDeviceGetPowerManagementLimit, "power_limit_milliwatts", unsigned)
NUMBER(nvmlDeviceGetTotalEnergyConsumption, "energy_millijoules", unsigned long long)

EXPORT const char *nvmlErrorString(nvml_return code) {
  switch (code) {
    case OK: return "Success";
    case IN_USE: return "In use by another client";
    case INSUFFICIENT_RESOURCES: return "Insufficient Resources";
    case ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Error of the fake library";
  }
}

EXPORT nvml_return nvmlSystemGetDriverVersion(char *text, unsigned length) {
  ENTER();
  LEAVE(give_text(value_of("driver"), text, length));
}

EXPORT nvml_return nvmlSystemGetNVMLVersion(char *text, unsigned length) {
  ENTER();
  LEAVE(give_text(value_of("nvml"), text, length));
}

EXPORT nvml_return nvmlSystemGetCudaDriverVersion_v2(int *version) {
  ENTER();
  const char *text = value_of("cuda");
  LEAVE_IF(text ? OK : NOT_SUPPORTED);
  *version = atoi(text);
  LEAVE(OK);
}

EXPORT nvml_return nvmlSystemGetCudaDriverVersion(int *version) {
  return nvmlSystemGetCudaDriverVersion_v2(version);
}

EXPORT nvml_return nvmlDeviceGetCount_v2(unsigned *number) {
  ENTER();
  *number = gpu_count();
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *device) {
  ENTER();
  LEAVE_IF(index < (unsigned)gpu_count() ? OK : INVALID_ARGUMENT);
  *device = make_handle(GPU_TAG, index, 0, 0);
  int gpu;
  LEAVE(find_gpu(__func__, *device, &gpu));
}

EXPORT nvml_return nvmlDeviceGetHandleByUUID(const char *uuid, handle *device) {
  ENTER();
  for (int gpu = 0; gpu < gpu_count(); gpu++) {
    const char *own = value_of("gpu.%d.uuid", gpu);
    if (!own || strcmp(own, uuid) != 0) continue;
    int found;
    *device = make_handle(GPU_TAG, gpu, 0, 0);
    LEAVE(find_gpu(__func__, *device, &found));
  }
  LEAVE(NOT_FOUND);
}

EXPORT nvml_return nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, handle *device) {
  ENTER();
  for (int gpu = 0; gpu < gpu_count(); gpu++) {
    const char *own = value_of("gpu.%d.pci", gpu);
    if (!own || strcasecmp(own, bus_id) != 0) continue;
    int found;
    *device = make_handle(GPU_TAG, gpu, 0, 0);
    LEAVE(find_gpu(__func__, *device, &found));
  }
  LEAVE(NOT_FOUND);
}

EXPORT nvml_return nvmlDeviceGetIndex(handle device, unsigned *index) {
  ON_GPU(device);
  *index = gpu;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetUUID(handle device, char *text, unsigned length) {
  ON_GPU(device);
  if (tag_of(device) == GPU_TAG) LEAVE(give_text(value_of("gpu.%d.uuid", gpu), text, length));
  const char *live = value_of("gpu.%d.ci.%d.%d", gpu, instance_part(device), compute_part(device));
  LEAVE_IF(live ? OK : INVALID_ARGUMENT);
  LEAVE(give_text(strrchr(live, ' ') + 1, text, length));
}

EXPORT nvml_return nvmlDeviceGetName(handle device, char *text, unsigned length) {
  ON_GPU(device);
  LEAVE(give_text(value_of("gpu.%d.name", gpu), text, length));
}

EXPORT nvml_return nvmlDeviceGetSerial(handle device, char *text, unsigned length) {
  ON_GPU(device);
  LEAVE(give_text(value_of("gpu.%d.serial", gpu), text, length));
}

static void fill_pci(const char *text, pci_info *info) {
  memset(info, 0, sizeof *info);
  sscanf(text, "%x:%x:%x", &info->domain, &info->bus, &info->device);
  snprintf(info->bus_id, sizeof info->bus_id, "%s", text);
  snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "%s", strlen(text) > 12 ? text + 4 : text);
}

EXPORT nvml_return nvmlDeviceGetPciInfo_v3(handle device, pci_info *info) {
  ON_GPU(device);
  const char *text = value_of("gpu.%d.pci", gpu);
  LEAVE_IF(text ? OK : NOT_SUPPORTED);
  fill_pci(text, info);
  unsigned long long id = 0;
  gpu_number(gpu, "pci_device_id", &id);
  info->pci_device_id = (unsigned)id;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetCudaComputeCapability(handle device, int *major, int *minor) {
  ON_GPU(device);
  const char *text = value_of("gpu.%d.compute_capability", gpu);
  LEAVE_IF(text ? OK : NOT_SUPPORTED);
  LEAVE(sscanf(text, "%d.%d", major, minor) == 2 ? OK : UNKNOWN);
}

static nvml_return memory_of(handle device, int gpu, unsigned long long *mebibytes) {
  if (tag_of(device) == GPU_TAG) return gpu_number(gpu, "memory_mib", mebibytes);
  const char *live = value_of("gpu.%d.gi.%d", gpu, instance_part(device));
  if (!live) return INVALID_ARGUMENT;
  const char *profile = value_of("gpu.%d.profile.%d", gpu, atoi(live));
  return profile && sscanf(profile, "%*d %*d %*d %*d %*d %*d %*d %*d %*d %llu", mebibytes) == 1 ? OK : UNKNOWN;
}

EXPORT nvml_return nvmlDeviceGetMemoryInfo(handle device, memory_info *info) {
  ON_GPU(device);
  unsigned long long mebibytes;
  LEAVE_IF(memory_of(device, gpu, &mebibytes));
  info->total = info->free = mebibytes << 20;
  info->used = 0;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetMemoryInfo_v2(handle device, memory_info_v2 *info) {
  ON_GPU(device);
  unsigned long long mebibytes;
  LEAVE_IF(memory_of(device, gpu, &mebibytes));
  info->total = info->free = mebibytes << 20;
  info->used = info->reserved = 0;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetEccMode(handle device, unsigned *current, unsigned *pending) {
  ON_GPU(device);
  unsigned long long mode;
  LEAVE_IF(gpu_number(gpu, "ecc", &mode));
  *current = *pending = (unsigned)mode;
  LEAVE(OK);
}

/* type 0 corrected, 1 uncorrected; counter 0 volatile, 1 aggregate. */
EXPORT nvml_return nvmlDeviceGetTotalEccErrors(handle device, unsigned type, unsigned counter,
                                               unsigned long long *errors) {
  ON_GPU(device);
  char fact[64];
  snprintf(fact, sizeof fact, "ecc.%u.%u", type, counter);
  LEAVE(gpu_number(gpu, fact, errors));
}

/* The header says: not supported while MIG instances are active. */
EXPORT nvml_return nvmlDeviceGetRemappedRows(handle device, unsigned *corrected, unsigned *uncorrected,
                                             unsigned *pending, unsigned *failed) {
  ON_GPU(device);
  char prefix[64];
  snprintf(prefix, sizeof prefix, "gpu.%d.gi.", gpu);
  const char *text = value_of("gpu.%d.remapped_rows", gpu);
  LEAVE_IF(text && !key_at(prefix, 0) ? OK : NOT_SUPPORTED);
  LEAVE(sscanf(text, "%u %u %u %u", corrected, uncorrected, pending, failed) == 4 ? OK : UNKNOWN);
}

/* ---- NVLink: gpu.<n>.links is the number of links, gpu.<n>.link.<l> is "active remote_type remote_pci". */

static nvml_return link_of(int gpu, unsigned link, unsigned *active, unsigned *type, char *remote) {
  unsigned long long links;
  nvml_return answer = gpu_number(gpu, "links", &links);
  if (answer != OK) return answer;
  if (link >= links) return INVALID_ARGUMENT;
  const char *text = value_of("gpu.%d.link.%u", gpu, link);
  return text && sscanf(text, "%u %u %31s", active, type, remote) == 3 ? OK : NOT_SUPPORTED;
}

#define ON_LINK(device, link)                                                                                \
  unsigned active, type;                                                                                     \
  char remote[32];                                                                                           \
  ON_GPU(device);                                                                                            \
  LEAVE_IF(link_of(gpu, (link), &active, &type, remote))

EXPORT nvml_return nvmlDeviceGetNvLinkState(handle device, unsigned link, unsigned *is_active) {
  ON_LINK(device, link);
  *is_active = active;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetNvLinkVersion(handle device, unsigned link, unsigned *version) {
  ON_LINK(device, link);
  unsigned long long number;
  LEAVE_IF(gpu_number(gpu, "link_version", &number));
  *version = (unsigned)number;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetNvLinkRemoteDeviceType(handle device, unsigned link, unsigned *remote_type) {
  ON_LINK(device, link);
  LEAVE_IF(active ? OK : NOT_SUPPORTED);
  *remote_type = type;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetNvLinkRemotePciInfo_v2(handle device, unsigned link, pci_info *info) {
  ON_LINK(device, link);
  LEAVE_IF(active ? OK : NOT_SUPPORTED);
  fill_pci(remote, info);
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetTopologyCommonAncestor(handle one, handle other, unsigned *level) {
  int second;
  ON_GPU(one);
  LEAVE_IF(find_gpu(__func__, other, &second));
  const char *text = value_of("gpu.%d.ancestor.%d", gpu, second);
  LEAVE_IF(text ? OK : NOT_SUPPORTED);
  *level = atoi(text);
  LEAVE(OK);
}

/* Capability 2 is NVLink; a GPU in MIG mode has no peers. */
EXPORT nvml_return nvmlDeviceGetP2PStatus(handle one, handle other, unsigned capability, unsigned *status) {
  int second;
  ON_GPU(one);
  LEAVE_IF(find_gpu(__func__, other, &second));
  unsigned long long mode_here = 0, mode_there = 0;
  gpu_number(gpu, "mig_current", &mode_here);
  gpu_number(second, "mig_current", &mode_there);
  const char *text = value_of("gpu.%d.p2p.%d", gpu, second);
  *status = text ? (unsigned)atoi(text) : 5;
  if (capability != 2) *status = 0;
  if (mode_here || mode_there) *status = 2;
  LEAVE(OK);
}

EXPORT nvml_return nvmlDeviceGetGpuFabricInfoV(handle device, fabric_info *info) {
  ON_GPU(device);
  const char *text = value_of("gpu.%d.fabric", gpu);
  unsigned version = info->version >> 24;
  LEAVE_IF(version == 2 || version == 3 ? OK : ARGUMENT_VERSION_MISMATCH);
  LEAVE_IF(text ? OK : NOT_SUPPORTED);
  char hex[33];
  LEAVE_IF(sscanf(text, "%u %32s %u %u", &info->state, hex, &info->clique_id, &info->health_mask) == 4
               ? OK
               : UNKNOWN);
  for (int i = 0; i < 16; i++) {
    unsigned byte = 0;
    sscanf(hex + 2 * i, "%2x", &byte);
    info->cluster_uuid[i] = (unsigned char)byte;
  }
  info->status = OK;
  if (version == 3) info->health_summary = 1;
  LEAVE(OK);
}

/* Field 90: megabytes a second of one link; 91: number of links. Others are not told. */
EXPORT nvml_return nvmlDeviceGetFieldValues(handle device, int number, field_value *values) {
  ON_GPU(device);
  for (int i = 0; i < number; i++) {
    const char *fact = values[i].field_id == 90 ? "link_megabytes_per_second" : "links";
    unsigned long long told = 0;
    values[i].answer = NOT_SUPPORTED;
    if (values[i].field_id == 90 || values[i].field_id == 91) values[i].answer = gpu_number(gpu, fact, &told);
    values[i].value_type = 1;
    values[i].value.large = 0;
    values[i].value.number = (unsigned)told;
  }
  LEAVE(OK);
}
