/* NVML of a machine that has one H100 of 80 GB, as far as engines ask it before they use the GPU. */
#include <string.h>

#define GIB (1ull << 30)

typedef void *device;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;

/* By its first name too, by which torch calls it. */
int nvmlInit(void) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "not pretended"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "580.95.05", size); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *found) { *found = (device)1; return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, device *found) { *found = (device)1; return 0; }
int nvmlDeviceGetIndex(device gpu, unsigned *index) { *index = 0; return 0; }
int nvmlDeviceGetName(device gpu, char *text, unsigned size) { strncpy(text, "NVIDIA H100 80GB HBM3", size); return 0; }
int nvmlDeviceGetUUID(device gpu, char *text, unsigned size) { strncpy(text, "GPU-0", size); return 0; }
int nvmlDeviceGetCudaComputeCapability(device gpu, int *major, int *minor) { *major = 9; *minor = 0; return 0; }
int nvmlDeviceGetMemoryInfo(device gpu, memory *all) { all->total = all->free = 80 * GIB; all->used = 0; return 0; }

int nvmlDeviceGetMemoryInfo_v2(device gpu, memory_v2 *all) {
    all->total = all->free = 80 * GIB;
    all->used = all->reserved = 0;
    return 0;
}
