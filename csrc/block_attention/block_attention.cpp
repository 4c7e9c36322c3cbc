// The ops of sasa/ops/block_attn/schema.py for CPU tensors: checks the arguments, allocates the results and runs the
// kernels' tasks on torch's threads.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

#include "block_attention/block_attention.h"
#include "common/capability.h"
#include "common/tensors.h"

namespace sasa {

SASA_DECLARE_KERNELS(BlockKernels, block_kernels)

namespace {

void check_argument(const char* name, const Tensor& argument, const Tensor& x, std::vector<int64_t> size) {
  bool right = argument.is_cpu() && argument.is_contiguous() && argument.scalar_type() == arithmetic_of(x) &&
               argument.dim() == int64_t(size.size());
  for (int64_t i = 0; right && i < argument.dim(); ++i) right = argument.size(i) == size[i];
  STD_TORCH_CHECK(right, name, ": expected a contiguous CPU tensor of its shape and the arithmetic's dtype; ",
                  "call sasa.ops.block_attention, which converts it");
}

BlockProblem problem_of(const Tensor& x, const Tensor& qk_weight, const Tensor& rel_weight,
                        const Tensor& v_weight, int64_t block_size) {
  STD_TORCH_CHECK(x.is_cpu() && x.dim() == 4 && x.size(1) > 0 && x.size(2) > 0 && x.size(3) > 0,
                  "x: expected a CPU map (B, C, H, W) with C, H, W >= 1");
  STD_TORCH_CHECK(block_size >= 1 && block_size <= 1 << 15 && qk_weight.dim() == 3 && qk_weight.size(0) > 0 && v_weight.dim() == 3 &&
                      v_weight.size(1) > 0 && v_weight.size(1) % qk_weight.size(0) == 0,
                  "call sasa.ops.block_attention, which checks its arguments");
  BlockProblem p;
  p.storage = storage_of(x);
  p.batch = x.size(0), p.channels = x.size(1), p.height = x.size(2), p.width = x.size(3);
  p.heads = qk_weight.size(0), p.head_dim = v_weight.size(1) / p.heads, p.block_size = block_size;
  const int64_t positions = block_size * block_size;
  check_argument("qk_weight", qk_weight, x, {p.heads, p.channels, p.channels});
  check_argument("rel_weight", rel_weight, x, {p.heads, p.channels, positions, positions});
  check_argument("v_weight", v_weight, x, {positions, p.heads * p.head_dim, p.channels});
  p.x = map_of("x", x);
  p.qk_weight = data_of("qk_weight", qk_weight), p.rel_weight = data_of("rel_weight", rel_weight);
  p.v_weight = data_of("v_weight", v_weight);
  return p;
}

// Multiply-adds of a row of blocks in the forward pass.
double work_of_row(const BlockProblem& p) {
  const double pairs = double(p.columns()) * p.block_size * p.block_size * p.block_size * p.block_size;
  return pairs * p.heads * double(2 * p.channels + p.head_dim);
}

void run(const BlockForward& f) {
  run_tasks(f.problem.batch * f.problem.rows(), work_of_row(f.problem), f, chosen_block_kernels().forward);
}

Tensor block_attention(Tensor x, Tensor qk_weight, Tensor rel_weight, Tensor v_weight, int64_t block_size,
                       bool max_pool, bool channels_last) {
  const BlockProblem p = problem_of(x, qk_weight, rel_weight, v_weight, block_size);
  Tensor out = empty({p.batch, p.heads * p.head_dim, max_pool ? p.rows() : p.height,
                      max_pool ? p.columns() : p.width},
                     x.scalar_type(), channels_last);
  run({p, max_pool, map_of("out", out), nullptr});
  return out;
}

// Mean and variance of all outputs from those of the rows of blocks, in their order (Chan et al., 1979).
template <typename T>
void merge(const BlockProblem& p, const Tensor& rows, Tensor& mean_of_all, Tensor& var_of_all) {
  const T* row = static_cast<const T*>(rows.const_data_ptr());
  const int64_t outputs = p.heads * p.head_dim, count = p.batch * p.rows();
  std::vector<double> mean(outputs), squared(outputs);
  double merged = 0;
  for (int64_t r = 0; r < count; ++r, row += 2 * outputs) {
    const int64_t height = std::min(p.block_size, p.height - r % p.rows() * p.block_size);
    const double size = double(height * p.width), all = merged + size;
    for (int64_t o = 0; o < outputs; ++o) {
      const double difference = row[o] - mean[o];
      mean[o] += difference * (size / all);
      squared[o] += row[outputs + o] + difference * difference * (merged * size / all);
    }
    merged = all;
  }
  T* to_mean = static_cast<T*>(mean_of_all.mutable_data_ptr());
  T* to_var = static_cast<T*>(var_of_all.mutable_data_ptr());
  for (int64_t o = 0; o < outputs; ++o) {
    to_mean[o] = T(merged > 0 ? mean[o] : NAN);
    to_var[o] = T(squared[o] < 0 ? 0.0 : squared[o] / merged);
  }
}

std::tuple<Tensor, Tensor, Tensor> block_attention_statistics(Tensor x, Tensor qk_weight, Tensor rel_weight,
                                                              Tensor v_weight, int64_t block_size,
                                                              bool channels_last) {
  const BlockProblem p = problem_of(x, qk_weight, rel_weight, v_weight, block_size);
  const int64_t outputs = p.heads * p.head_dim;
  const ScalarType dtype = arithmetic_of(x);
  Tensor out = empty({p.batch, outputs, p.rows(), p.columns()}, x.scalar_type(), channels_last);
  Tensor rows = empty({p.batch * p.rows(), 2, outputs}, dtype);
  Tensor mean = empty({outputs}, dtype), var = empty({outputs}, dtype);
  run({p, true, map_of("out", out), rows.mutable_data_ptr()});
  (dtype == ScalarType::Double ? merge<double> : merge<float>)(p, rows, mean, var);
  return {out, mean, var};
}

// The backward pass has as many chunks as kChunkBytes hold gradients, at most kChunks.
constexpr int64_t kChunks = 128;
constexpr int64_t kChunkBytes = 32 << 20;

// Mean, shift and slope of BlockBackward, from the gradients of mean and variance.
template <typename T>
Tensor statistics_of(const BlockProblem& p, ScalarType dtype, const std::optional<Tensor>& mean,
                     const std::optional<Tensor>& grad_mean, const std::optional<Tensor>& grad_var) {
  const int64_t outputs = p.heads * p.head_dim;
  const T count = T(p.batch * p.height * p.width);
  Tensor statistics = empty({3, outputs}, dtype);
  T* to = static_cast<T*>(statistics.mutable_data_ptr());
  const auto value = [&](const std::optional<Tensor>& x, int64_t o) {
    return x ? static_cast<const T*>(x->const_data_ptr())[o * x->stride(0)] : T(0);
  };
  for (int64_t o = 0; o < outputs; ++o) {
    to[o] = value(mean, o);
    to[outputs + o] = value(grad_mean, o) / count;
    to[2 * outputs + o] = 2 * value(grad_var, o) / count;
  }
  return statistics;
}

std::tuple<Tensor, Tensor, Tensor> block_attention_backward(
    Tensor grad, std::optional<Tensor> grad_mean, std::optional<Tensor> grad_var, std::optional<Tensor> mean,
    Tensor x, Tensor qk_weight, Tensor rel_weight, Tensor v_weight, int64_t block_size, bool max_pool) {
  const BlockProblem p = problem_of(x, qk_weight, rel_weight, v_weight, block_size);
  STD_TORCH_CHECK(grad.is_cpu() && grad.dim() == 4 && grad.scalar_type() == x.scalar_type() &&
                      grad.size(0) == p.batch && grad.size(1) == p.heads * p.head_dim &&
                      grad.size(2) == (max_pool ? p.rows() : p.height) &&
                      grad.size(3) == (max_pool ? p.columns() : p.width),
                  "grad: expected the output's shape and dtype");
  for (const auto* vector : {&grad_mean, &grad_var, &mean}) {
    STD_TORCH_CHECK(!*vector || (max_pool && (*vector)->is_cpu() && (*vector)->dim() == 1 &&
                                 (*vector)->size(0) == p.heads * p.head_dim &&
                                 (*vector)->scalar_type() == arithmetic_of(x)),
                    "mean: expected a number of the arithmetic's dtype for each output, and max_pool");
    data_of("mean", *vector);
  }
  const ScalarType dtype = arithmetic_of(x);
  const int64_t positions = block_size * block_size, rows = p.batch * p.rows();
  const int64_t bytes = (qk_weight.numel() + rel_weight.numel() + v_weight.numel()) * 8;
  const int64_t chunks = std::min(rows, std::clamp<int64_t>(kChunkBytes / bytes, 1, kChunks));
  Tensor grad_qk_weight = empty({chunks, p.heads, p.channels, p.channels}, dtype);
  Tensor grad_rel_weight = empty({chunks, p.heads, p.channels, positions, positions}, dtype);
  Tensor grad_v_weight = empty({chunks, positions, p.heads * p.head_dim, p.channels}, dtype);
  const Tensor statistics = (dtype == ScalarType::Double ? statistics_of<double> : statistics_of<float>)(
      p, dtype, mean, grad_mean, grad_var);
  const BlockBackward b{p,
                        max_pool,
                        map_of("grad", grad),
                        statistics.const_data_ptr(),
                        chunks,
                        grad_qk_weight.mutable_data_ptr(),
                        grad_rel_weight.mutable_data_ptr(),
                        grad_v_weight.mutable_data_ptr()};
  if (chunks > 0)
    run_tasks(chunks, work_of_row(p) * double(3 * rows / chunks), b, chosen_block_kernels().backward);
  return {sum_of_parts(grad_qk_weight, {p.heads, p.channels, p.channels}),
          sum_of_parts(grad_rel_weight, {p.heads, p.channels, positions, positions}),
          sum_of_parts(grad_v_weight, {positions, p.heads * p.head_dim, p.channels})};
}

}  // namespace
}  // namespace sasa

STABLE_TORCH_LIBRARY_IMPL(sasa, CPU, m) {
  m.impl("block_attention", TORCH_BOX(&sasa::block_attention));
  m.impl("block_attention_statistics", TORCH_BOX(&sasa::block_attention_statistics));
  m.impl("block_attention_backward", TORCH_BOX(&sasa::block_attention_backward));
}
