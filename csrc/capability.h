// Which instructions the kernels use, chosen when an op is called.
#pragma once

#include <string>

namespace sasa {

// The best first.
enum class Capability { kAvx512, kAvx2, kPortable };

// The best that this machine has, or the one that the environment variable SASA_CPU_CAPABILITY names.
// Raises a RuntimeError where that one is unknown or this machine does not have it.
Capability chosen_capability();

}  // namespace sasa

// The names of those that this machine has, the best first, separated by spaces.
extern "C" __attribute__((visibility("default"))) const char* sasa_cpu_capabilities();

// Whether this machine has products of bfloat16, for the capability avx512.
extern "C" __attribute__((visibility("default"))) bool sasa_cpu_has_avx512_bf16();
