#define _GNU_SOURCE
#include "fake_state.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
  char *key, *value;
} entry;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static entry *entries;
static int count, room, dirty, started, die_after;
static struct stat known;
static int lock_file = -1;

static const char *path(void) {
  const char *name = getenv("FAKE_NVML_STATE");
  return name ? name : "";
}

static void clear(void) {
  for (int i = 0; i < count; i++) {
    free(entries[i].key);
    free(entries[i].value);
  }
  count = 0;
}

/* Entries are sorted by key. The place of the first one that is not below key. */
static int place_of(const char *key) {
  int low = 0, high = count;
  while (low < high) {
    int middle = (low + high) / 2;
    if (strcmp(entries[middle].key, key) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static entry *find(const char *key) {
  int place = place_of(key);
  return place < count && !strcmp(entries[place].key, key) ? &entries[place] : NULL;
}

static void insert(const char *key, const char *value) {
  int place = place_of(key);
  if (count == room) {
    room = room ? 2 * room : 256;
    entries = realloc(entries, room * sizeof *entries);
  }
  memmove(entries + place + 1, entries + place, (count - place) * sizeof *entries);
  entries[place] = (entry){strdup(key), strdup(value)};
  count++;
}

static int load(void) {
  struct stat now;
  if (stat(path(), &now) != 0) return -1;
  if (count && now.st_ino == known.st_ino && now.st_size == known.st_size &&
      now.st_mtim.tv_sec == known.st_mtim.tv_sec && now.st_mtim.tv_nsec == known.st_mtim.tv_nsec)
    return 0;
  FILE *file = fopen(path(), "r");
  if (!file) return -1;
  clear();
  char *line = NULL;
  size_t size = 0;
  while (getline(&line, &size, file) > 0) {
    line[strcspn(line, "\n")] = 0;
    char *tab = strchr(line, '\t');
    if (!tab) continue;
    *tab = 0;
    insert(line, tab + 1);
  }
  free(line);
  fclose(file);
  known = now;
  return 0;
}

/* A reader or a killed process never leaves half a file: write beside it, then rename. */
static void store(void) {
  char beside[4096];
  snprintf(beside, sizeof beside, "%s.new", path());
  FILE *file = fopen(beside, "w");
  if (!file) return;
  for (int i = 0; i < count; i++) fprintf(file, "%s\t%s\n", entries[i].key, entries[i].value);
  fclose(file);
  rename(beside, path());
  stat(path(), &known);
  dirty = 0;
}

static void lock(void) {
  static char opened[4096];
  char name[4096];
  pthread_mutex_lock(&mutex);
  snprintf(name, sizeof name, "%s.lock", path());
  if (lock_file < 0 || strcmp(name, opened) != 0) { /* a test process may go from node to node */
    if (lock_file >= 0) close(lock_file);
    strcpy(opened, name);
    lock_file = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  }
  while (lock_file >= 0 && flock(lock_file, LOCK_EX) != 0 && errno == EINTR) {
  }
}

static void unlock(void) {
  if (lock_file >= 0) flock(lock_file, LOCK_UN);
  pthread_mutex_unlock(&mutex);
}

void let_others_go(int milliseconds) {
  if (dirty) store();
  unlock();
  usleep(1000 * (unsigned)milliseconds);
  lock();
  load();
}

static void record(const char *symbol, nvml_return answer) {
  const char *name = getenv("FAKE_NVML_LOG");
  if (!name) return;
  int file = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) return;
  dprintf(file, "%s %d\n", symbol, answer);
  close(file);
}

/* fault.<n> = "symbol skip times action argument"; symbol "*" is any but the wait for events, times -1 is
 * always. The file counts, so that a process that was killed does not meet the same fault again when it is
 * started anew. */
static nvml_return faults(const char *symbol) {
  int milliseconds = 0;
  nvml_return answer = OK;
  for (int i = 0; i < count; i++) {
    char where[128], action[32];
    int skip, times, argument;
    if (strncmp(entries[i].key, "fault.", 6) != 0) continue;
    if (sscanf(entries[i].value, "%127s %d %d %31s %d", where, &skip, &times, action, &argument) != 5) continue;
    int any = !strcmp(where, "*") && strcmp(symbol, "nvmlEventSetWait_v2") != 0;
    if (times == 0 || !(any || !strcmp(where, symbol))) continue;
    int fires = skip == 0;
    if (!fires) skip--;
    if (fires && times > 0) times--;
    set_value(entries[i].key, "%s %d %d %s %d", where, skip, times, action, argument);
    if (!fires) continue;
    if (!strcmp(action, "slow")) milliseconds += argument;
    if (!strcmp(action, "error")) answer = argument;
    if (!strcmp(action, "kill-after")) die_after = 1;
    if (!strcmp(action, "kill")) {
      store();
      kill(getpid(), SIGKILL);
    }
  }
  if (milliseconds) let_others_go(milliseconds);
  return answer;
}

nvml_return enter(const char *symbol) {
  lock();
  nvml_return answer = OK;
  if (load() != 0)
    answer = 9; /* driver not loaded: no state file */
  else if (started == 0)
    answer = UNINITIALIZED;
  else
    answer = faults(symbol);
  if (answer == OK) return OK;
  return leave(symbol, answer);
}

nvml_return leave(const char *symbol, nvml_return answer) {
  if (dirty) store();
  record(symbol, answer);
  if (die_after) kill(getpid(), SIGKILL);
  unlock();
  return answer;
}

/* Init goes through here because enter() refuses before it. */
EXPORT nvml_return nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  lock();
  nvml_return answer = load() == 0 ? faults(__func__) : 9;
  if (answer == OK) started++;
  LEAVE(answer);
}

EXPORT nvml_return nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT nvml_return nvmlShutdown(void) {
  ENTER();
  started--;
  LEAVE(OK);
}

const char *value_of(const char *format, ...) {
  char key[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(key, sizeof key, format, arguments);
  va_end(arguments);
  entry *found = find(key);
  return found ? found->value : NULL;
}

void set_value(const char *key, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  dirty = 1;
  entry *found = find(key);
  if (!found) {
    insert(key, text);
    return;
  }
  free(found->value);
  found->value = strdup(text);
}

void remove_value(const char *key) {
  entry *found = find(key);
  if (!found) return;
  free(found->key);
  free(found->value);
  count--;
  memmove(found, found + 1, (entries + count - found) * sizeof *found);
  dirty = 1;
}

const char *key_at(const char *prefix, int n) {
  size_t length = strlen(prefix);
  int place = place_of(prefix) + n;
  return place < count && !strncmp(entries[place].key, prefix, length) ? entries[place].key : NULL;
}

int gpu_count(void) {
  const char *text = value_of("gpus");
  return text ? atoi(text) : 0;
}

int privileged(void) {
  const char *text = value_of("privileged");
  return !text || atoi(text);
}

handle make_handle(int tag, int gpu, int instance, int compute) {
  return (handle)(((uintptr_t)tag << 28) | ((uintptr_t)gpu << 16) | ((uintptr_t)instance << 8) | compute);
}

int tag_of(handle value) { return (int)((uintptr_t)value >> 28); }
int gpu_part(handle value) { return ((uintptr_t)value >> 16) & 0xff; }
int instance_part(handle value) { return ((uintptr_t)value >> 8) & 0xff; }
int compute_part(handle value) { return (uintptr_t)value & 0xff; }

nvml_return find_gpu(const char *symbol, handle device, int *gpu) {
  int tag = tag_of(device);
  *gpu = gpu_part(device);
  if ((tag < GPU_TAG || tag > COMPUTE_TAG) || *gpu >= gpu_count()) return INVALID_ARGUMENT;
  if (value_of("gpu.%d.lost", *gpu)) return GPU_IS_LOST;
  if (value_of("gpu.%d.unsupported.%s", *gpu, symbol)) return NOT_SUPPORTED;
  return OK;
}

nvml_return gpu_number(int gpu, const char *fact, unsigned long long *number) {
  const char *text = value_of("gpu.%d.%s", gpu, fact);
  if (!text) return NOT_SUPPORTED;
  *number = strtoull(text, NULL, 10);
  return OK;
}

nvml_return give_text(const char *text, char *buffer, unsigned length) {
  if (!text) return NOT_SUPPORTED;
  if (!buffer) return INVALID_ARGUMENT;
  if (strlen(text) + 1 > length) return INSUFFICIENT_SIZE;
  strcpy(buffer, text);
  return OK;
}
