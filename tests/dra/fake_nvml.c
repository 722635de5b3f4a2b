/* A stand-in for libnvidia-ml.so.1 with two cards: one that tells everything, one that supports little. */
#include <stdio.h>
#include <string.h>

#define OK 0
#define NOT_SUPPORTED 3
#define INVALID_ARGUMENT 2

typedef struct { unsigned long long total, free, used; } memory_t;
static int cards[2] = {0, 1};

int nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == NOT_SUPPORTED ? "Not Supported" : "Error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  if (index > 1) return INVALID_ARGUMENT;
  *device = &cards[index];
  return OK;
}

static int of(void *device) { return *(int *)device; }

int nvmlDeviceGetUUID(void *device, char *text, unsigned length) {
  snprintf(text, length, "GPU-fake-%d", of(device));
  return OK;
}

int nvmlDeviceGetName(void *device, char *text, unsigned length) {
  snprintf(text, length, of(device) ? "NVIDIA L40S" : "NVIDIA A100-SXM4-80GB");
  return OK;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
  memory->total = (of(device) ? 46068ULL : 81920ULL) << 20;
  memory->free = memory->total;
  memory->used = 0;
  return OK;
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
  if (of(device)) return NOT_SUPPORTED;
  *current = *pending = 1;
  return OK;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
  if (of(device)) return NOT_SUPPORTED;
  *milliwatts = 61500;
  return OK;
}

int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *milliwatts) {
  if (of(device)) return NOT_SUPPORTED;
  *milliwatts = 400000;
  return OK;
}
