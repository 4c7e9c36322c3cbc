// The instructions that the kernels use, chosen when an op is called.
#pragma once

namespace sasa {

// The best first.
enum class Capability { kAvx512, kAvx2, kPortable };

// The best capability that this machine has, or the one that the environment variable SASA_CPU_CAPABILITY names.
// Raises a RuntimeError if that one is unknown or this machine does not have it.
Capability chosen_capability();

}  // namespace sasa

// An op's kernels.cpp is compiled once per capability and defines a TYPE called NAME in the namespace of that
// capability. This declares them, and chosen_NAME(), which returns that of the chosen capability.
#if defined(__x86_64__)
#define SASA_DECLARE_KERNELS(TYPE, NAME)                     \
  namespace avx512 { extern const TYPE NAME; }               \
  namespace avx2 { extern const TYPE NAME; }                 \
  namespace portable { extern const TYPE NAME; }             \
  static const TYPE& chosen_##NAME() {                       \
    switch (chosen_capability()) {                           \
      case Capability::kAvx512: return avx512::NAME;         \
      case Capability::kAvx2: return avx2::NAME;             \
      default: return portable::NAME;                        \
    }                                                        \
  }
#else
#define SASA_DECLARE_KERNELS(TYPE, NAME)                     \
  namespace portable { extern const TYPE NAME; }             \
  static const TYPE& chosen_##NAME() {                       \
    chosen_capability(); /* checks the variable */           \
    return portable::NAME;                                   \
  }
#endif

// The names of the capabilities that this machine has, the best first, separated by spaces.
extern "C" __attribute__((visibility("default"))) const char* sasa_cpu_capabilities();

// Whether this machine can multiply pairs of bfloat16 (AVX512_BF16), which the capability avx512 uses if available.
extern "C" __attribute__((visibility("default"))) bool sasa_cpu_has_avx512_bf16();
