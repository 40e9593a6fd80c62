/* Stands in for NVIDIA's driver where there is no GPU: one device, whose memory is this machine's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *current;

int cuInit(unsigned flags) { return flags != 0 || getenv("STAND_IN_NO_GPU") ? 100 : 0; }
int cuDeviceGet(int *device, int number) { *device = 7; return number != 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &current; return device != 7; }
int cuCtxSetCurrent(void *context) { return context != &current; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }

int cuDeviceGetName(char *name, int length, int device) {
  const char *given = getenv("STAND_IN_GPU");
  snprintf(name, length, "%s", given ? given : "NVIDIA Stand-in");
  return device != 7;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 9 : -1;
  return device != 7 || *value < 0;
}

int cuMemAlloc_v2(void **address, size_t size) { *address = malloc(size); return *address == NULL; }
int cuMemFree_v2(void *address) { free(address); return 0; }
int cuMemAllocHost_v2(void **address, size_t size) { *address = malloc(size); return *address == NULL; }
int cuMemFreeHost(void *address) { free(address); return 0; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(1); return flags != 1; }
int cuStreamDestroy_v2(void *stream) { free(stream); return 0; }
int cuStreamSynchronize(void *stream) { return stream == NULL; }

int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, void *stream) {
  memcpy(to, from, size);
  return stream == NULL;
}

int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, void *stream) {
  memcpy(to, from, size);
  return stream == NULL;
}
