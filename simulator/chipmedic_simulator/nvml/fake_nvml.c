/* A libnvidia-ml.so.1 without a chip: answers come from a text file that is read again when it changes.
 *
 * The file named by CHIPMEDIC_SIMULATOR_NVML_STATE holds `key=value` lines (state.py documents the keys).
 * `gpu.<n>.<key>` answers for one chip and `gpu.*.<key>` for all; a key that is absent is a call that this
 * chip does not support. stand_in.py answers the same from the same file, in Python.
 * ABI: nvml.h, x86-64 and aarch64; the sizes of the structures are asserted below.
 */
#include "fake_state.h"

typedef struct { char bus_id_legacy[16]; unsigned domain, bus, device, pci_device_id, pci_subsystem_id; char bus_id[32]; } pci_info;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned pid; unsigned long long used_memory; unsigned gpu_instance, compute_instance; } process_info;
typedef struct { unsigned max, high, partial, low, none; } row_histogram;
typedef struct { unsigned char cluster[16]; ret status; unsigned clique; unsigned char state; } fabric_v1;
typedef struct { unsigned version; unsigned char cluster[16]; ret status; unsigned clique; unsigned char state; unsigned health_mask; } fabric_v2;
typedef struct { fabric_v2 before; unsigned char health_summary; } fabric_v3;
typedef struct { unsigned version; unsigned long long counts[11]; unsigned is_exceeded; } sram_status;
typedef struct { unsigned version, sensor; int temperature; } temperature_v1;
typedef struct { unsigned version, channel, cluster; } repair_status;
typedef struct { unsigned version, is_unrepairable; } unrepairable;
typedef union { double d; unsigned u; unsigned long ul; unsigned long long ull; long long ll; int i; unsigned short us; } value_union;
typedef struct { unsigned id, scope; long long timestamp, latency_microseconds; unsigned type; ret code; value_union value; } field_value;
typedef struct { device_t device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } event_data;
typedef struct { unsigned long long seen, masks[MAX_GPUS]; } *event_set_t;

_Static_assert(sizeof(pci_info) == 68, "PciInfo");
_Static_assert(sizeof(memory) == 24 && sizeof(memory_v2) == 40, "Memory");
_Static_assert(sizeof(process_info) == 24, "ProcessInfo_v3");
_Static_assert(sizeof(fabric_v1) == 28 && sizeof(fabric_v2) == 36 && sizeof(fabric_v3) == 40, "GpuFabricInfo");
_Static_assert(sizeof(sram_status) == 104, "EccSramErrorStatus_v1");
_Static_assert(sizeof(repair_status) == 12 && sizeof(unrepairable) == 8, "RepairStatus, UnrepairableMemory");
_Static_assert(sizeof(row_histogram) == 20, "RowRemapperHistogramValues");
_Static_assert(sizeof(field_value) == 40, "FieldValue");
_Static_assert(sizeof(event_data) == 32, "EventData");

static ret give_text(const char *value, char *out, unsigned size) {
    if (strlen(value) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

/* ---- calls that all look alike ------------------------------------------------------------------ */

#define SYSTEM_TEXT(symbol, key)                                                                       \
    ret symbol(char *out, unsigned size) {                                                             \
        char value[VALUE_BYTES];                                                                       \
        ret code = enter_library(#symbol);                                                             \
        return code ? code : find(key, value) ? give_text(value, out, size) : NOT_SUPPORTED;           \
    }
#define DEVICE_TEXT(symbol, key)                                                                       \
    ret symbol(device_t device, char *out, unsigned size) {                                            \
        char value[VALUE_BYTES];                                                                       \
        ret code = enter_device(#symbol, device);                                                      \
        return code ? code : find_for(device->index, key, value) ? give_text(value, out, size) : NOT_SUPPORTED; \
    }
#define DEVICE_NUMBER(symbol, type, key)                                                               \
    ret symbol(device_t device, type *out) {                                                           \
        char value[VALUE_BYTES];                                                                       \
        ret code = enter_device(#symbol, device);                                                      \
        if (code || !find_for(device->index, key, value))                                              \
            return code ? code : NOT_SUPPORTED;                                                        \
        *out = (type)strtoull(value, NULL, 0);                                                         \
        return SUCCESS;                                                                                \
    }
#define DEVICE_PAIR(symbol, first_key, second_key)                                                     \
    ret symbol(device_t device, unsigned *first, unsigned *second) {                                   \
        char value[VALUE_BYTES];                                                                       \
        ret code = enter_device(#symbol, device);                                                      \
        if (code || !find_for(device->index, first_key, value))                                        \
            return code ? code : NOT_SUPPORTED;                                                        \
        *first = (unsigned)strtoull(value, NULL, 0);                                                   \
        *second = (unsigned)number_for(device->index, second_key, *first);                             \
        return SUCCESS;                                                                                \
    }
#define DEVICE_SELECTED(symbol, key)                                                                   \
    ret symbol(device_t device, unsigned selector, unsigned *out) {                                    \
        char full[KEY_BYTES], value[VALUE_BYTES];                                                      \
        ret code = enter_device(#symbol, device);                                                      \
        snprintf(full, sizeof full, key ".%u", selector);                                              \
        if (code || !find_for(device->index, full, value))                                             \
            return code ? code : NOT_SUPPORTED;                                                        \
        *out = (unsigned)strtoull(value, NULL, 0);                                                     \
        return SUCCESS;                                                                                \
    }

SYSTEM_TEXT(nvmlSystemGetDriverVersion, "driver_version")
SYSTEM_TEXT(nvmlSystemGetNVMLVersion, "nvml_version")
DEVICE_TEXT(nvmlDeviceGetName, "name")
DEVICE_TEXT(nvmlDeviceGetSerial, "serial")
DEVICE_TEXT(nvmlDeviceGetVbiosVersion, "vbios")
DEVICE_TEXT(nvmlDeviceGetBoardPartNumber, "board_part_number")
DEVICE_TEXT(nvmlDeviceGetInforomImageVersion, "inforom")
DEVICE_NUMBER(nvmlDeviceGetMinorNumber, unsigned, "minor")
DEVICE_NUMBER(nvmlDeviceGetModuleId, unsigned, "module")
DEVICE_NUMBER(nvmlDeviceGetArchitecture, unsigned, "architecture")
DEVICE_NUMBER(nvmlDeviceGetBrand, unsigned, "brand")
DEVICE_NUMBER(nvmlDeviceGetNumGpuCores, unsigned, "cores")
DEVICE_NUMBER(nvmlDeviceGetMultiGpuBoard, unsigned, "multi_gpu_board")
DEVICE_NUMBER(nvmlDeviceGetPowerUsage, unsigned, "power_milliwatts")
DEVICE_NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned, "power_limit_milliwatts")
DEVICE_NUMBER(nvmlDeviceGetPowerManagementLimit, unsigned, "power_limit_milliwatts")
DEVICE_NUMBER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, "energy_millijoules")
DEVICE_NUMBER(nvmlDeviceGetPerformanceState, unsigned, "performance_state")
DEVICE_NUMBER(nvmlDeviceGetPersistenceMode, unsigned, "persistence_mode")
DEVICE_NUMBER(nvmlDeviceGetComputeMode, unsigned, "compute_mode")
DEVICE_NUMBER(nvmlDeviceGetFanSpeed, unsigned, "fan_percent")
DEVICE_NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, "pcie_generation")
DEVICE_NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, "pcie_generation_max")
DEVICE_NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned, "pcie_width")
DEVICE_NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned, "pcie_width_max")
DEVICE_NUMBER(nvmlDeviceGetPcieReplayCounter, unsigned, "pcie_replays")
DEVICE_NUMBER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, "throttle_reasons")
DEVICE_NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "throttle_reasons")
DEVICE_NUMBER(nvmlDeviceGetRetiredPagesPendingStatus, unsigned, "retired_pending")
DEVICE_NUMBER(nvmlDeviceGetSupportedEventTypes, unsigned long long, "event_types")
DEVICE_NUMBER(nvmlDeviceGetMaxMigDeviceCount, unsigned, "mig_devices_max")
DEVICE_PAIR(nvmlDeviceGetEccMode, "ecc_mode", "ecc_mode_pending")
DEVICE_PAIR(nvmlDeviceGetMigMode, "mig", "mig_pending")
DEVICE_SELECTED(nvmlDeviceGetTemperatureThreshold, "temperature_threshold")
DEVICE_SELECTED(nvmlDeviceGetClockInfo, "clock")
DEVICE_SELECTED(nvmlDeviceGetMaxClockInfo, "clock_max")

/* ---- MIG: `mig.<k>=<uuid>,<gpu instance>,<compute instance>,<bytes used>,<bytes>` --------------- */

struct slice { char uuid[96]; unsigned gpu_instance, compute_instance; unsigned long long used, total; };

static int find_slice(device_t device, struct slice *out) {
    char key[KEY_BYTES], value[VALUE_BYTES];
    snprintf(key, sizeof key, "mig.%d", device->slice);
    return find_for(device->index, key, value) &&
           sscanf(value, "%95[^,],%u,%u,%llu,%llu", out->uuid, &out->gpu_instance, &out->compute_instance, &out->used, &out->total) == 5;
}

ret nvmlDeviceGetMigDeviceHandleByIndex(device_t device, unsigned number, device_t *out) {
    struct slice slice;
    ret code = enter_device("nvmlDeviceGetMigDeviceHandleByIndex", device);
    if (code)
        return code;
    if (!number_for(device->index, "mig", 0))
        return NOT_SUPPORTED;
    if (device->slice || number + 1 >= MAX_HANDLES)
        return INVALID_ARGUMENT;
    struct device *wanted = &devices[device->index * MAX_HANDLES + (int)number + 1];
    *wanted = (struct device){device->index, 1, (int)number + 1};
    *out = wanted;
    return find_slice(wanted, &slice) ? SUCCESS : NOT_FOUND;
}

static ret give_instance(const char *symbol, device_t device, int is_compute, unsigned *out) {
    struct slice slice;
    ret code = enter_device(symbol, device);
    if (code)
        return code;
    if (!device->slice || !find_slice(device, &slice))
        return INVALID_ARGUMENT;
    *out = is_compute ? slice.compute_instance : slice.gpu_instance;
    return SUCCESS;
}
ret nvmlDeviceGetGpuInstanceId(device_t device, unsigned *out) { return give_instance("nvmlDeviceGetGpuInstanceId", device, 0, out); }
ret nvmlDeviceGetComputeInstanceId(device_t device, unsigned *out) { return give_instance("nvmlDeviceGetComputeInstanceId", device, 1, out); }

ret nvmlDeviceGetUUID(device_t device, char *out, unsigned size) {
    char value[VALUE_BYTES];
    struct slice slice;
    ret code = enter_device("nvmlDeviceGetUUID", device);
    if (code)
        return code;
    if (device->slice)
        return find_slice(device, &slice) ? give_text(slice.uuid, out, size) : INVALID_ARGUMENT;
    return find_for(device->index, "uuid", value) ? give_text(value, out, size) : NOT_SUPPORTED;
}

/* ---- library, enumeration, identity ------------------------------------------------------------- */

ret nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    ret code = enter("nvmlInitWithFlags", NO_GPU);
    references += code == SUCCESS;
    return code;
}
ret nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
ret nvmlShutdown(void) { return references > 0 ? (references--, SUCCESS) : UNINITIALIZED; }

const char *nvmlErrorString(ret code) {
    switch (code) {
    case SUCCESS: return "Success";
    case NOT_SUPPORTED: return "Not Supported";
    case GPU_IS_LOST: return "GPU is lost";
    case 16: return "GPU requires reset";
    default: return "Unknown Error";
    }
}

ret nvmlSystemGetCudaDriverVersion_v2(int *out) {
    ret code = enter_library("nvmlSystemGetCudaDriverVersion_v2");
    if (!code)
        *out = (int)number("cuda_version", 0);
    return code;
}
ret nvmlSystemGetCudaDriverVersion(int *out) { return nvmlSystemGetCudaDriverVersion_v2(out); }

ret nvmlDeviceGetCount_v2(unsigned *out) {
    ret code = enter_library("nvmlDeviceGetCount_v2");
    if (!code)
        *out = (unsigned)number("count", 0);
    return code;
}

/* A chip that fell off the bus is 999 to who asks for it anew and 15 to who held it already. */
static ret open_device(const char *symbol, int gpu, device_t *out) {
    if (gpu < 0 || gpu >= MAX_GPUS || gpu >= (int)number("count", 0))
        return INVALID_ARGUMENT;
    ret code = enter(symbol, gpu);
    if (code)
        return code;
    if (number_for(gpu, "lost", 0))
        return devices[gpu * MAX_HANDLES].is_open ? GPU_IS_LOST : UNKNOWN;
    devices[gpu * MAX_HANDLES] = (struct device){gpu, 1, 0};
    *out = &devices[gpu * MAX_HANDLES];
    return SUCCESS;
}

ret nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *out) {
    ret code = enter_library("nvmlDeviceGetHandleByIndex_v2");
    return code ? code : open_device("nvmlDeviceGetHandleByIndex_v2", (int)index, out);
}

static ret open_by(const char *symbol, const char *key, const char *wanted, device_t *out) {
    char value[VALUE_BYTES];
    ret code = enter_library(symbol);
    for (int gpu = 0; !code && gpu < (int)number("count", 0); gpu++)
        if (find_for(gpu, key, value) && !strcasecmp(value, wanted))
            return open_device(symbol, gpu, out);
    return code ? code : NOT_FOUND;
}
ret nvmlDeviceGetHandleByUUID(const char *uuid, device_t *out) { return open_by("nvmlDeviceGetHandleByUUID", "uuid", uuid, out); }
ret nvmlDeviceGetHandleBySerial(const char *serial, device_t *out) { return open_by("nvmlDeviceGetHandleBySerial", "serial", serial, out); }
ret nvmlDeviceGetHandleByPciBusId_v2(const char *pci, device_t *out) { return open_by("nvmlDeviceGetHandleByPciBusId_v2", "pci", pci, out); }

ret nvmlDeviceGetIndex(device_t device, unsigned *out) {
    ret code = enter_device("nvmlDeviceGetIndex", device);
    if (!code)
        *out = (unsigned)device->index;
    return code;
}

ret nvmlDeviceGetPciInfo_v3(device_t device, pci_info *out) {
    char value[VALUE_BYTES];
    unsigned function = 0;
    ret code = enter_device("nvmlDeviceGetPciInfo_v3", device);
    if (code || !find_for(device->index, "pci", value))
        return code ? code : NOT_SUPPORTED;
    memset(out, 0, sizeof *out);
    sscanf(value, "%x:%x:%x.%x", &out->domain, &out->bus, &out->device, &function);
    out->pci_device_id = (unsigned)number_for(device->index, "pci_device_id", 0x233010de);
    snprintf(out->bus_id, sizeof out->bus_id, "%08X:%02X:%02X.%X", out->domain, out->bus & 0xff, out->device & 0xff, function & 7);
    snprintf(out->bus_id_legacy, sizeof out->bus_id_legacy, "%04X:%02X:%02X.%X", out->domain & 0xffff, out->bus & 0xff, out->device & 0xff, function & 7);
    return SUCCESS;
}

ret nvmlDeviceGetCudaComputeCapability(device_t device, int *major, int *minor) {
    ret code = enter_device("nvmlDeviceGetCudaComputeCapability", device);
    if (!code) {
        unsigned long long both = number_for(device->index, "compute_capability", 90);
        *major = (int)(both / 10);
        *minor = (int)(both % 10);
    }
    return code;
}

/* ---- readings ----------------------------------------------------------------------------------- */

ret nvmlDeviceGetTemperature(device_t device, unsigned sensor, unsigned *out) {
    char value[VALUE_BYTES];
    ret code = enter_device("nvmlDeviceGetTemperature", device);
    if (code || sensor != 0 || !find_for(device->index, "temperature", value))
        return code ? code : NOT_SUPPORTED;
    *out = (unsigned)strtoull(value, NULL, 0);
    return SUCCESS;
}

ret nvmlDeviceGetTemperatureV(device_t device, temperature_v1 *out) {
    char value[VALUE_BYTES];
    ret code = enter_device("nvmlDeviceGetTemperatureV", device);
    if (code || out->sensor != 0 || !find_for(device->index, "temperature", value))
        return code ? code : NOT_SUPPORTED;
    if (out->version != 0x100000c)
        return VERSION_MISMATCH;
    out->temperature = (int)strtol(value, NULL, 0);
    return SUCCESS;
}

ret nvmlDeviceGetUtilizationRates(device_t device, utilization *out) {
    char value[VALUE_BYTES];
    ret code = enter_device("nvmlDeviceGetUtilizationRates", device);
    if (code || !find_for(device->index, "utilization_percent", value))
        return code ? code : NOT_SUPPORTED;
    out->gpu = (unsigned)strtoull(value, NULL, 0);
    out->memory = (unsigned)number_for(device->index, "memory_utilization_percent", 0);
    return SUCCESS;
}

static ret read_memory(const char *symbol, device_t device, memory *out) {
    char value[VALUE_BYTES];
    struct slice slice;
    ret code = enter_device(symbol, device);
    if (!code && device->slice) {
        if (!find_slice(device, &slice))
            return INVALID_ARGUMENT;
        *out = (memory){slice.total, slice.total - slice.used, slice.used};
        return SUCCESS;
    }
    if (code || !find_for(device->index, "memory_total_bytes", value))
        return code ? code : NOT_SUPPORTED;
    out->total = strtoull(value, NULL, 0);
    out->used = number_for(device->index, "memory_used_bytes", 0);
    out->free = out->total - out->used;
    return SUCCESS;
}
ret nvmlDeviceGetMemoryInfo(device_t device, memory *out) { return read_memory("nvmlDeviceGetMemoryInfo", device, out); }
ret nvmlDeviceGetMemoryInfo_v2(device_t device, memory_v2 *out) {
    memory all;
    if (out->version != 0x2000028)
        return VERSION_MISMATCH;
    ret code = read_memory("nvmlDeviceGetMemoryInfo_v2", device, &all);
    if (!code)
        *out = (memory_v2){out->version, all.total, 0, all.free, all.used};
    return code;
}

ret nvmlDeviceGetTotalEccErrors(device_t device, unsigned error, unsigned counter, unsigned long long *out) {
    static const char *keys[2][2] = {{"ecc_corrected_volatile", "ecc_corrected"}, {"ecc_uncorrected_volatile", "ecc_uncorrected"}};
    char value[VALUE_BYTES];
    ret code = enter_device("nvmlDeviceGetTotalEccErrors", device);
    if (code || error > 1 || counter > 1)
        return code ? code : INVALID_ARGUMENT;
    if (!find_for(device->index, keys[error][counter], value))
        return NOT_SUPPORTED;
    *out = strtoull(value, NULL, 0);
    return SUCCESS;
}

ret nvmlDeviceGetMemoryErrorCounter(device_t device, unsigned error, unsigned counter, unsigned place, unsigned long long *out) {
    return place == 2 ? nvmlDeviceGetTotalEccErrors(device, error, counter, out) : NOT_SUPPORTED;
}

ret nvmlDeviceGetRemappedRows(device_t device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    char value[VALUE_BYTES];
    ret code = enter_device("nvmlDeviceGetRemappedRows", device);
    if (code || number_for(device->index, "mig", 0) || !find_for(device->index, "remapped_corrected", value))
        return code ? code : NOT_SUPPORTED;
    *corrected = (unsigned)strtoull(value, NULL, 0);
    *uncorrected = (unsigned)number_for(device->index, "remapped_uncorrected", 0);
    *pending = (unsigned)number_for(device->index, "remap_pending", 0);
    *failed = (unsigned)number_for(device->index, "remap_failed", 0);
    return SUCCESS;
}

ret nvmlDeviceGetRowRemapperHistogram(device_t device, row_histogram *out) {
    char value[VALUE_BYTES];
    ret code = enter_device("nvmlDeviceGetRowRemapperHistogram", device);
    if (code || !find_for(device->index, "row_banks", value))
        return code ? code : NOT_SUPPORTED;
    *out = (row_histogram){0};
    sscanf(value, "%u,%u,%u,%u,%u", &out->max, &out->high, &out->partial, &out->low, &out->none);
    return SUCCESS;
}

ret nvmlDeviceGetNvLinkState(device_t device, unsigned link, unsigned *out) {
    char value[VALUE_BYTES];
    ret code = enter_device("nvmlDeviceGetNvLinkState", device);
    if (code || link >= number_for(device->index, "link_count", 0) || !find_link(device->index, link, "up", value))
        return code ? code : NOT_SUPPORTED;
    *out = (unsigned)strtoull(value, NULL, 0);
    return SUCCESS;
}

/* Up to A100; later generations answer through field values alone. */
ret nvmlDeviceGetNvLinkErrorCounter(device_t device, unsigned link, unsigned counter, unsigned long long *out) {
    static const char *keys[] = {"replays", "recoveries", "crc"};
    char value[VALUE_BYTES];
    ret code = enter_device("nvmlDeviceGetNvLinkErrorCounter", device);
    if (code || link >= number_for(device->index, "link_count", 0) || counter > 2 ||
        number_for(device->index, "link_generation", 0) > 3 || !find_link(device->index, link, keys[counter], value))
        return code ? code : NOT_SUPPORTED;
    *out = strtoull(value, NULL, 0);
    return SUCCESS;
}

static ret read_fabric(const char *symbol, device_t device, fabric_v1 *out) {
    char value[VALUE_BYTES];
    ret code = enter_device(symbol, device);
    if (code || !find_for(device->index, "fabric_state", value))
        return code ? code : NOT_SUPPORTED;
    out->state = (unsigned char)strtoull(value, NULL, 0);
    out->status = (ret)number_for(device->index, "fabric_status", 0);
    return SUCCESS;
}
ret nvmlDeviceGetGpuFabricInfo(device_t device, fabric_v1 *out) { return read_fabric("nvmlDeviceGetGpuFabricInfo", device, out); }

/* `fabric_version` is the newest structure that this driver knows. */
ret nvmlDeviceGetGpuFabricInfoV(device_t device, fabric_v3 *out) {
    fabric_v1 info = {0};
    ret code = read_fabric("nvmlDeviceGetGpuFabricInfoV", device, &info);
    unsigned version = out->before.version;
    if (code)
        return code;
    if ((version != 0x2000024 && version != 0x3000028) || version >> 24 > number_for(device->index, "fabric_version", 3))
        return VERSION_MISMATCH;
    out->before.state = info.state;
    out->before.status = info.status;
    out->before.health_mask = (unsigned)number_for(device->index, "fabric_health_mask", 0);
    if (version == 0x3000028)
        out->health_summary = (unsigned char)number_for(device->index, "fabric_health_summary", 1);
    return SUCCESS;
}

/* One number in a structure whose first member is its version. */
static ret read_versioned(const char *symbol, const char *key, device_t device, unsigned version, unsigned wanted, unsigned *out) {
    char value[VALUE_BYTES];
    ret code = enter_device(symbol, device);
    if (code || !find_for(device->index, key, value))
        return code ? code : NOT_SUPPORTED;
    if (version != wanted)
        return VERSION_MISMATCH;
    *out = (unsigned)strtoull(value, NULL, 0);
    return SUCCESS;
}
ret nvmlDeviceGetSramEccErrorStatus(device_t device, sram_status *out) { return read_versioned("nvmlDeviceGetSramEccErrorStatus", "sram_threshold", device, out->version, 0x1000068, &out->is_exceeded); }
ret nvmlDeviceGetRepairStatus(device_t device, repair_status *out) { return read_versioned("nvmlDeviceGetRepairStatus", "repair_pending", device, out->version, 0x100000c, &out->channel); }
ret nvmlDeviceGetUnrepairableMemoryFlag_v1(device_t device, unrepairable *out) { return read_versioned("nvmlDeviceGetUnrepairableMemoryFlag_v1", "unrepairable_memory", device, out->version, 0x1000008, &out->is_unrepairable); }

static ret list_processes(const char *symbol, const char *key, device_t device, unsigned *count, process_info *out) {
    char value[VALUE_BYTES];
    ret code = enter_device(symbol, device);
    if (code || !find_for(device->index, key, value))
        return code ? code : NOT_SUPPORTED;
    unsigned here = 0, room = out ? *count : 0;
    struct slice slice;
    if (!device->slice && number_for(device->index, "whole_denied", 0))
        return NO_PERMISSION;
    if (device->slice && !find_slice(device, &slice))
        return INVALID_ARGUMENT;
    char *rest = value;
    for (char *item; (item = strtok_r(rest, ",", &rest));) {
        process_info found = {0, UINT64_MAX, UINT32_MAX, UINT32_MAX};
        char bytes[32] = "-";
        sscanf(item, "%u:%31[^:]:%u:%u", &found.pid, bytes, &found.gpu_instance, &found.compute_instance);
        if (bytes[0] != '-')
            found.used_memory = strtoull(bytes, NULL, 0);
        if (device->slice && (found.gpu_instance != slice.gpu_instance || found.compute_instance != slice.compute_instance))
            continue;
        if (here < room)
            out[here] = found;
        here++;
    }
    *count = here;
    return here > room ? INSUFFICIENT_SIZE : SUCCESS;
}
ret nvmlDeviceGetComputeRunningProcesses_v3(device_t device, unsigned *count, process_info *out) { return list_processes("nvmlDeviceGetComputeRunningProcesses_v3", "processes", device, count, out); }
ret nvmlDeviceGetComputeRunningProcesses_v2(device_t device, unsigned *count, process_info *out) { return list_processes("nvmlDeviceGetComputeRunningProcesses_v2", "processes", device, count, out); }
ret nvmlDeviceGetGraphicsRunningProcesses_v3(device_t device, unsigned *count, process_info *out) { return list_processes("nvmlDeviceGetGraphicsRunningProcesses_v3", "graphics_processes", device, count, out); }

/* ---- field values ------------------------------------------------------------------------------- */

/* The last two columns: the NVLink generations that answer it; 0 for a field that is not of a link. */
static const struct { unsigned id; const char *key; unsigned type, from, to; } FIELDS[] = {
    {1, "ecc_mode", TYPE_UINT, 0, 0}, {3, "ecc_corrected_volatile", TYPE_ULONGLONG, 0, 0}, {4, "ecc_uncorrected_volatile", TYPE_ULONGLONG, 0, 0},
    {5, "ecc_corrected", TYPE_ULONGLONG, 0, 0}, {6, "ecc_uncorrected", TYPE_ULONGLONG, 0, 0}, {29, "retired_single", TYPE_UINT, 0, 0},
    {30, "retired_double", TYPE_UINT, 0, 0}, {31, "retired_pending", TYPE_UINT, 0, 0}, {82, "memory_temperature", TYPE_UINT, 0, 0},
    {83, "energy_millijoules", TYPE_ULONGLONG, 0, 0}, {91, "link_count", TYPE_UINT, 0, 0}, {94, "pcie_replays", TYPE_UINT, 0, 0},
    {142, "remapped_corrected", TYPE_UINT, 0, 0}, {143, "remapped_uncorrected", TYPE_UINT, 0, 0}, {144, "remap_pending", TYPE_UINT, 0, 0},
    {145, "remap_failed", TYPE_UINT, 0, 0}, {185, "power_milliwatts", TYPE_UINT, 0, 0}, {186, "power_milliwatts", TYPE_UINT, 0, 0},
    {230, "recovery_action", TYPE_UINT, 0, 0}, {161, "replays", TYPE_ULONGLONG, 4, 4}, {162, "recoveries", TYPE_ULONGLONG, 4, 4},
    {163, "crc", TYPE_ULONGLONG, 4, 4}, {165, "up", TYPE_UINT, 4, 9}, {208, "receive_errors", TYPE_ULONGLONG, 5, 9},
    {294, "blocks", TYPE_ULONGLONG, 5, 9}, {295, "blocks_again", TYPE_ULONGLONG, 5, 9},
    {215, "recovery_events", TYPE_ULONGLONG, 5, 9}, {170, "c2c_count", TYPE_UINT, 0, 0}, {307, "bank_remap_pending", TYPE_UINT, 0, 0},
};
enum { FIELD_C2C_STATE = 171, FIELD_C2C_REPLAYS = 232 };

static void read_field(int gpu, field_value *field) {
    char key[KEY_BYTES], value[VALUE_BYTES];
    field->code = NOT_SUPPORTED;
    snprintf(key, sizeof key, "field_code.%u", field->id);
    if (find_for(gpu, key, value)) {
        field->code = (ret)strtol(value, NULL, 0);
        return;
    }
    if (field->id == FIELD_C2C_STATE && field->scope < number_for(gpu, "c2c_count", 0)) {
        snprintf(key, sizeof key, "c2c.%u.up", field->scope);
        field->code = SUCCESS;
        field->type = TYPE_UINT;
        field->value.ull = number_for(gpu, key, 1);
        return;
    }
    if (field->id == FIELD_C2C_REPLAYS) {
        snprintf(key, sizeof key, "c2c.%u.replays", field->scope);
        field->code = find_for(gpu, key, value) ? SUCCESS : INVALID_ARGUMENT;
        field->type = TYPE_ULONGLONG;
        field->value.ull = field->code ? 0 : strtoull(value, NULL, 0);
        return;
    }
    for (size_t row = 0; row < sizeof FIELDS / sizeof *FIELDS; row++) {
        if (FIELDS[row].id != field->id)
            continue;
        unsigned long long generation = number_for(gpu, "link_generation", 0);
        if (FIELDS[row].to && (field->scope >= number_for(gpu, "link_count", 0) || generation < FIELDS[row].from || generation > FIELDS[row].to))
            return;
        if (FIELDS[row].to ? find_link(gpu, field->scope, FIELDS[row].key, value) : find_for(gpu, FIELDS[row].key, value)) {
            field->code = SUCCESS;
            field->type = FIELDS[row].type;
            field->value.ull = strtoull(value, NULL, 0);
            field->latency_microseconds = 1;
        }
        return;
    }
}

/* As the real one: success when any field could be read. */
ret nvmlDeviceGetFieldValues(device_t device, int count, field_value *fields) {
    ret code = enter_device("nvmlDeviceGetFieldValues", device), first = SUCCESS;
    int good = 0;
    for (int i = 0; !code && i < count; i++) {
        read_field(device->index, &fields[i]);
        good += fields[i].code == SUCCESS;
        first = first ? first : fields[i].code;
    }
    return code ? code : good || !count ? SUCCESS : first;
}

/* ---- events ------------------------------------------------------------------------------------- */

ret nvmlEventSetCreate(event_set_t *out) {
    ret code = enter_library("nvmlEventSetCreate");
    if (!code && (*out = calloc(1, sizeof **out)))
        (*out)->seen = number("event.count", 0); /* not retroactive */
    return code;
}

ret nvmlDeviceRegisterEvents(device_t device, unsigned long long types, event_set_t set) {
    ret code = enter_device("nvmlDeviceRegisterEvents", device);
    if (!code)
        set->masks[device->index] |= types;
    return code;
}

static int next_event(event_set_t set, event_data *out) {
    while (set->seen < number("event.count", 0)) {
        char key[KEY_BYTES], value[VALUE_BYTES];
        unsigned gpu, gpu_instance = UINT32_MAX, compute_instance = UINT32_MAX;
        unsigned long long type, data;
        snprintf(key, sizeof key, "event.%llu", ++set->seen);
        if (!find(key, value) || sscanf(value, "%u,%llu,%llu,%u,%u", &gpu, &type, &data, &gpu_instance, &compute_instance) < 3 || gpu >= MAX_GPUS)
            continue;
        if (set->masks[gpu] & type) {
            *out = (event_data){&devices[gpu * MAX_HANDLES], type, data, gpu_instance, compute_instance};
            return 1;
        }
    }
    return 0;
}

ret nvmlEventSetWait_v2(event_set_t set, event_data *out, unsigned timeout_milliseconds) {
    double until = monotonic() + timeout_milliseconds / 1e3;
    int watch = watch_state(); /* before the first look, so that no change is missed */
    ret code;
    while (!(code = enter_library("nvmlEventSetWait_v2")) && !next_event(set, out) && !code) {
        if (monotonic() >= until) {
            code = TIMEOUT;
            break;
        }
        sleep_until_changed(watch, until - monotonic());
    }
    if (watch >= 0)
        close(watch);
    return code;
}

ret nvmlEventSetFree(event_set_t set) {
    free(set);
    return SUCCESS;
}
