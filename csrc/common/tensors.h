// Between torch and the kernels: tensors, dtypes and threads. For the files that register ops.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "common/map.h"

namespace sasa {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The address of the first element. Raises if the memory was freed behind the tensor, as FSDP does with parameters: its
// address is then null, as that of an absent argument.
inline const void* data_of(const char* name, const Tensor& x) {
  int64_t bytes = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(x.get(), &bytes));
  STD_TORCH_CHECK(bytes > 0 || x.numel() == 0, name, ": expected a tensor with memory, got one of ", x.numel(),
                  " elements whose memory was freed; call the op while parameters are gathered");
  return x.const_data_ptr();
}

// Null if absent.
inline const void* data_of(const char* name, const std::optional<Tensor>& x) {
  return x ? data_of(name, *x) : nullptr;
}

inline Map map_of(const char* name, const Tensor& x) {
  return {const_cast<void*>(data_of(name, x)), x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
}

inline Map map_of(const char* name, const std::optional<Tensor>& x) { return x ? map_of(name, *x) : Map{}; }

inline Tensor empty(std::vector<int64_t> size, ScalarType dtype, bool channels_last = false) {
  return torch::stable::empty(size, dtype, std::nullopt, std::nullopt, std::nullopt,
                              channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

// The dtype of sums and of all arguments that are no maps.
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

// Runs the tasks 0 … tasks − 1 on torch's threads. `work` is the number of multiply-adds of one task: a thread gets
// at least kGrain of them, or starting it costs more than it saves.
template <typename Arguments>
void run_tasks(int64_t tasks, double work, const Arguments& arguments,
               void (*kernel)(const Arguments&, int64_t begin, int64_t end)) {
  constexpr double kGrain = 200e3;
  const int64_t grain = std::max<int64_t>(1, int64_t(kGrain / std::max(1.0, work)));
  torch::stable::parallel_for(0, tasks, grain,
                              [&](int64_t begin, int64_t end) { kernel(arguments, begin, end); });
}

template <typename T>
void add_parts(const Tensor& parts, Tensor& sum) {
  const T* from = static_cast<const T*>(parts.const_data_ptr());
  T* to = static_cast<T*>(sum.mutable_data_ptr());
  const int64_t count = parts.size(0), numel = sum.numel();
  std::fill_n(to, numel, T(0));
  for (int64_t part = 0; part < count; ++part)
    for (int64_t i = 0; i < numel; ++i) to[i] += from[part * numel + i];
}

// The sum over the first dimension of (parts, *size) in its order, which does not depend on the threads.
inline Tensor sum_of_parts(const Tensor& parts, std::vector<int64_t> size) {
  Tensor sum = empty(size, parts.scalar_type());
  if (parts.scalar_type() == ScalarType::Double)
    add_parts<double>(parts, sum);
  else
    add_parts<float>(parts, sum);
  return sum;
}

}  // namespace sasa
