#include "common/capability.h"

#include <torch/headeronly/util/Exception.h>

#include <cstdlib>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sasa {
namespace {

struct Available {
  Capability capability;
  const char* name;
};

#if defined(__x86_64__)
// What the processor offers and the operating system saves. __builtin_cpu_supports would do, but needs a runtime
// library of the compiler that not every compiler has.
struct Features {
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_bf16 = false;

  Features() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    constexpr unsigned kFma = 1u << 12, kOsSavesRegisters = 1u << 27;
    if (!(c & kFma) || !(c & kOsSavesRegisters)) return;
    unsigned saved, unused;
    asm("xgetbv" : "=a"(saved), "=d"(unused) : "c"(0));
    constexpr unsigned kYmm = 0x06, kZmm = 0xe6;
    if ((saved & kYmm) != kYmm || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    constexpr unsigned kAvx2 = 1u << 5, kAvx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
    avx2 = b & kAvx2;
    avx512 = avx2 && (saved & kZmm) == kZmm && (b & kAvx512) == kAvx512;
    constexpr unsigned kBf16 = 1u << 5;
    const unsigned leaves = a;
    avx512_bf16 = avx512 && leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kBf16);
  }
};

const Features& features() {
  static const Features found;
  return found;
}
#endif

std::vector<Available> find_capabilities() {
  std::vector<Available> found;
#if defined(__x86_64__)
  if (features().avx512) found.push_back({Capability::kAvx512, "avx512"});
  if (features().avx2) found.push_back({Capability::kAvx2, "avx2"});
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
  return sasa::features().avx512_bf16;
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
