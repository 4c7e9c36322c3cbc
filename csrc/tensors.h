// Torch's tensors and dtypes as the kernels know them. For the files that register ops.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <vector>

#include "local_attention.h"

namespace sasa {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// At least this many multiply-adds a thread, or starting it costs more than it saves.
constexpr double kGrain = 200e3;

inline Map map_of(const Tensor& x) {
  return {const_cast<void*>(x.const_data_ptr()), x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
}

inline Map map_of(const std::optional<Tensor>& x) { return x ? map_of(*x) : Map{}; }

inline const void* data_of(const std::optional<Tensor>& x) { return x ? x->const_data_ptr() : nullptr; }

inline Tensor empty(std::vector<int64_t> size, ScalarType dtype, bool channels_last = false) {
  return torch::stable::empty(size, dtype, std::nullopt, std::nullopt, std::nullopt,
                              channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

inline ScalarType arithmetic_of(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline Storage storage_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Float: return Storage::kFloat32;
    case ScalarType::BFloat16: return Storage::kBFloat16;
    case ScalarType::Double: return Storage::kFloat64;
    default: STD_TORCH_CHECK(false, "expected a map of float32, bfloat16 or float64");
  }
}

}  // namespace sasa
