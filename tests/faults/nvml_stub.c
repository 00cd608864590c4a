/* A libnvidia-ml.so.1 with one GPU, for machines without one: what rvtop, Ray and vLLM ask first. */
#include <math.h>
#include <string.h>
#include <time.h>

#define OK 0
#define INVALID 2

struct memory { unsigned long long total, free, used; };
struct memory2 { unsigned int version; unsigned long long total, reserved, free, used; };
struct rates { unsigned int gpu, memory; };

static int text(char *out, unsigned int size, const char *what)
{
	if (strlen(what) >= size)
		return INVALID;
	strcpy(out, what);
	return OK;
}

int nvmlInit_v2(void) { return OK; }
int nvmlInitWithFlags(unsigned int flags) { (void)flags; return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code ? "no" : "yes"; }
int nvmlSystemGetDriverVersion(char *out, unsigned int size) { return text(out, size, "570.86.15"); }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { *out = 12080; return OK; }
int nvmlDeviceGetCount_v2(unsigned int *out) { *out = 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **out) { *out = (void *)1; return i ? INVALID : OK; }
int nvmlDeviceGetName(void *gpu, char *out, unsigned int size) { (void)gpu; return text(out, size, "NVIDIA H100"); }
int nvmlDeviceGetUUID(void *gpu, char *out, unsigned int size) { (void)gpu; return text(out, size, "GPU-0"); }

int nvmlDeviceGetMemoryInfo(void *gpu, struct memory *out)
{
	(void)gpu;
	*out = (struct memory){80ULL << 30, 79ULL << 30, 1ULL << 30};
	return OK;
}

int nvmlDeviceGetMemoryInfo_v2(void *gpu, struct memory2 *out)
{
	(void)gpu;
	*out = (struct memory2){out->version, 80ULL << 30, 0, 79ULL << 30, 1ULL << 30};
	return OK;
}

int nvmlDeviceGetUtilizationRates(void *gpu, struct rates *out)
{
	(void)gpu;
	*out = (struct rates){42, 7};
	return OK;
}

/* Power of 300 W +- 200 W over 8 s, and the energy that it makes: its exact integral. */
static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

#define TURN (2 * M_PI / 8)

int nvmlDeviceGetPowerUsage(void *gpu, unsigned int *out)
{
	(void)gpu;
	*out = 1000 * (300 + 200 * sin(TURN * now_s()));
	return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *out)
{
	double t = now_s();

	(void)gpu;
	*out = 1000 * (300 * t + 200 / TURN * (1 - cos(TURN * t)));
	return OK;
}
