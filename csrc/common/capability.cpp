#include "common/capability.h"

#include <torch/headeronly/util/Exception.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace sasa {
namespace {

struct Available {
  Capability capability;
  const char* name;
};

std::vector<Available> find_capabilities() {
  std::vector<Available> found;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx2 && avx512) found.push_back({Capability::kAvx512, "avx512"});
  if (avx2) found.push_back({Capability::kAvx2, "avx2"});
#endif
  found.push_back({Capability::kPortable, "portable"});
  return found;
}

const std::vector<Available>& capabilities() {
  static const std::vector<Available> found = find_capabilities();
  return found;
}

}  // namespace

Capability chosen_capability() {
  const char* wanted = std::getenv("SASA_CPU_CAPABILITY");
  if (!wanted || !*wanted) return capabilities().front().capability;
  for (const Available& a : capabilities())
    if (std::string(wanted) == a.name) return a.capability;
  STD_TORCH_CHECK(false, "SASA_CPU_CAPABILITY: expected one of those that this machine has (",
                  sasa_cpu_capabilities(), "), got ", wanted, "; unset it to take the first");
}

}  // namespace sasa

extern "C" bool sasa_cpu_has_avx512_bf16() {
#if defined(__x86_64__)
  return sasa::capabilities().front().capability == sasa::Capability::kAvx512 &&
         __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

extern "C" const char* sasa_cpu_capabilities() {
  static const std::string names = [] {
    std::string joined;
    for (const auto& a : sasa::capabilities()) joined += std::string(joined.empty() ? "" : " ") + a.name;
    return joined;
  }();
  return names.c_str();
}
