// The ops of sasa/ops/local_attn/schema.py and sasa/ops/local_self_attn/schema.py for CPU tensors: checks the
// arguments, allocates the results and runs the kernels' tasks on torch's threads.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "common/capability.h"
#include "common/tensors.h"
#include "local_attention/local_attention.h"

namespace sasa {

SASA_DECLARE_KERNELS(LocalKernels, local_kernels)

namespace {

struct Options {
  int64_t heads, kernel_rows, kernel_cols, dilation_rows, dilation_cols;
  double scale;
  int64_t pool;
};

void check_map(const char* name, const Tensor& x, const Tensor& q) {
  STD_TORCH_CHECK(x.is_cpu() && x.dim() == 4 && q.dim() == 4 && x.scalar_type() == q.scalar_type() &&
                      x.size(0) == q.size(0) && x.size(2) == q.size(2) && x.size(3) == q.size(3) &&
                      x.size(1) >= 1 && x.size(2) >= 1 && x.size(3) >= 1,
                  name, ": expected a CPU map (B, C, H, W) with C, H, W >= 1 of q's dtype, batch and size");
}

void check_embedding(const char* name, const std::optional<Tensor>& x, const LocalProblem& p, int64_t taps,
                     ScalarType arithmetic) {
  STD_TORCH_CHECK(!x || (x->is_cpu() && x->is_contiguous() && x->scalar_type() == arithmetic && x->dim() == 3 &&
                         x->size(0) == p.heads && x->size(1) == taps && 2 * x->size(2) == p.head_dim),
                  name, ": expected a contiguous (num_heads, extent, D/2) of the arithmetic's dtype");
}

void check_options(const Options& o) {
  // No product of extents and dilations overflows below this.
  constexpr int64_t kLargest = 1 << 20;
  STD_TORCH_CHECK(o.heads >= 1 && o.kernel_rows % 2 == 1 && o.kernel_cols % 2 == 1 && o.dilation_rows >= 1 &&
                      o.dilation_cols >= 1 && (o.pool == 1 || o.pool == 2),
                  "expected num_heads >= 1, odd kernel sizes >= 1, dilations >= 1 and a pool of 1 or 2; "
                  "sasa.local_attention says which is wrong");
  STD_TORCH_CHECK(std::max({o.kernel_rows, o.kernel_cols, o.dilation_rows, o.dilation_cols}) <= kLargest,
                  "expected kernel sizes and dilations of at most ", kLargest);
}

// All but q, k and v.
LocalProblem problem_of(const Tensor& map, int64_t head_dim, int64_t value_head_dim, bool content,
                        const std::optional<Tensor>& rel_row, const std::optional<Tensor>& rel_col,
                        const Options& o) {
  LocalProblem p;
  p.storage = storage_of(map);
  p.batch = map.size(0), p.heads = o.heads;
  p.head_dim = head_dim, p.value_head_dim = value_head_dim;
  p.height = map.size(2), p.width = map.size(3);
  p.kernel_rows = o.kernel_rows, p.kernel_cols = o.kernel_cols;
  p.dilation_rows = o.dilation_rows, p.dilation_cols = o.dilation_cols;
  p.scale = o.scale, p.pool = o.pool;
  p.content = content;
  check_embedding("rel_row", rel_row, p, o.kernel_rows, arithmetic_of(map));
  check_embedding("rel_col", rel_col, p, o.kernel_cols, arithmetic_of(map));
  p.rel_row = data_of("rel_row", rel_row), p.rel_col = data_of("rel_col", rel_col);
  return p;
}

LocalProblem problem_of(const Tensor& q, const std::optional<Tensor>& k, const Tensor& v,
                        const std::optional<Tensor>& rel_row, const std::optional<Tensor>& rel_col,
                        const Options& o) {
  check_options(o);
  check_map("q", q, q);
  check_map("v", v, q);
  if (k) {
    check_map("k", *k, q);
    STD_TORCH_CHECK(k->size(1) == q.size(1), "k: expected q's channels");
  }
  STD_TORCH_CHECK(q.size(1) % o.heads == 0 && v.size(1) % o.heads == 0, "num_heads divides all channels");
  LocalProblem p = problem_of(q, q.size(1) / o.heads, v.size(1) / o.heads, k.has_value(), rel_row, rel_col, o);
  p.q = map_of("q", q), p.k = map_of("k", k), p.v = map_of("v", v);
  return p;
}

int64_t packed_channels(const Tensor& x) {
  return x.scalar_type() == ScalarType::BFloat16 ? (x.size(1) + 1) / 2 : x.size(1);
}

template <typename Arguments>
void run(const LocalProblem& p, const Arguments& arguments, int64_t (*count)(const Arguments&),
         void (*kernel)(const Arguments&, int64_t, int64_t)) {
  if (p.batch == 0) return;
  const int64_t tasks = count(arguments);
  const double work = double(p.batch) * p.heads * p.height * p.width * p.kernel_rows * p.kernel_cols *
                      double(p.head_dim + p.value_head_dim);
  run_tasks(tasks, work / double(tasks), arguments, kernel);
}

std::tuple<Tensor, Tensor> local_attention(Tensor q, std::optional<Tensor> k, Tensor v,
                                           std::optional<Tensor> rel_row, std::optional<Tensor> rel_col,
                                           int64_t heads, int64_t kernel_rows, int64_t kernel_cols,
                                           int64_t dilation_rows, int64_t dilation_cols, double scale,
                                           int64_t pool, bool relu, bool channels_last, bool save_lse) {
  const LocalProblem p = problem_of(q, k, v, rel_row, rel_col,
                                    {heads, kernel_rows, kernel_cols, dilation_rows, dilation_cols, scale, pool});
  Tensor out = empty({p.batch, v.size(1), (p.height + pool - 1) / pool, (p.width + pool - 1) / pool},
                     q.scalar_type(), channels_last);
  Tensor lse = empty({save_lse ? p.batch : 0, p.heads, p.height, p.width}, arithmetic_of(q));
  const LocalKernels& kernels = chosen_local_kernels();
  const LocalForward f{p, relu, map_of("out", out), save_lse ? lse.mutable_data_ptr() : nullptr,
                       torch::stable::get_num_threads()};
  run(p, f, kernels.forward_tasks, kernels.forward);
  return {out, lse};
}

// The weights of a 1 × 1 convolution in the layout of `local_self_attention`, (parts, panels, channels + 1, kPanel):
// for each part (q, k and v) panels of kPanel outputs, first their biases, then their weights channel by channel, or
// for bfloat16 pair by pair.
Tensor pack_projection(Tensor weight, std::optional<Tensor> bias, int64_t parts) {
  STD_TORCH_CHECK(parts >= 1 && weight.is_cpu() && weight.dim() == 4 && weight.size(0) >= 1 &&
                      weight.size(0) % parts == 0 && weight.size(1) >= 1 && weight.size(2) == 1 &&
                      weight.size(3) == 1,
                  "weight: expected (parts · N·D, C, 1, 1) on a CPU, with parts, N·D, C >= 1");
  STD_TORCH_CHECK(!bias || (bias->is_cpu() && bias->is_contiguous() && bias->dim() == 1 &&
                            bias->scalar_type() == weight.scalar_type() && bias->size(0) == weight.size(0)),
                  "bias: expected a contiguous vector of the weight's dtype, one number per output");
  const int64_t outputs = weight.size(0) / parts, panels = (outputs + kPanel - 1) / kPanel;
  Tensor packed = empty({parts, panels, packed_channels(weight) + 1, kPanel}, arithmetic_of(weight));
  const ProjectionWeights w{storage_of(weight),      parts,
                            outputs,                 weight.size(1),
                            data_of("weight", weight), weight.stride(0),
                            weight.stride(1),        data_of("bias", bias),
                            packed.mutable_data_ptr()};
  const auto pack = chosen_local_kernels().pack_panels;
  torch::stable::parallel_for(0, parts * panels, 4, [&](int64_t begin, int64_t end) { pack(w, begin, end); });
  return packed;
}

// Projects q, k and v from x inside the kernel; keeps nothing for a backward pass.
Tensor local_self_attention(Tensor x, Tensor packed, std::optional<Tensor> rel_row, std::optional<Tensor> rel_col,
                            int64_t channels, int64_t heads, int64_t kernel_rows, int64_t kernel_cols,
                            int64_t dilation_rows, int64_t dilation_cols, double scale, int64_t pool,
                            bool content, bool relu, bool channels_last) {
  const Options o{heads, kernel_rows, kernel_cols, dilation_rows, dilation_cols, scale, pool};
  check_options(o);
  check_map("x", x, x);
  STD_TORCH_CHECK(x.scalar_type() != ScalarType::BFloat16 ||
                      (chosen_capability() == Capability::kAvx512 && sasa_cpu_has_avx512_bf16()),
                  "x: expected float32 or float64 on a machine without AVX512_BF16");
  STD_TORCH_CHECK(channels >= 1 && channels % heads == 0 && packed.is_cpu() && packed.is_contiguous() && packed.dim() == 4 &&
                      packed.scalar_type() == arithmetic_of(x) && packed.size(0) == (content ? 3 : 2) &&
                      packed.size(1) == (channels + kPanel - 1) / kPanel &&
                      packed.size(2) == packed_channels(x) + 1 && packed.size(3) == kPanel,
                  "packed: expected sasa::pack_projection's result for x's channels and dtype");
  const LocalProblem p = problem_of(x, channels / heads, channels / heads, content, rel_row, rel_col, o);
  Tensor out = empty({p.batch, channels, (p.height + pool - 1) / pool, (p.width + pool - 1) / pool},
                     x.scalar_type(), channels_last);
  const Projection projection{map_of("x", x), x.size(1), data_of("packed", packed)};
  const LocalForward f{p, relu, map_of("out", out), nullptr, torch::stable::get_num_threads(), &projection};
  const LocalKernels& kernels = chosen_local_kernels();
  run(p, f, kernels.forward_tasks, kernels.forward);
  return out;
}

// The gradients of q, k, v, rel_row and rel_col; that of an absent argument is empty.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> local_attention_backward(
    Tensor grad, Tensor q, std::optional<Tensor> k, Tensor v, std::optional<Tensor> rel_row,
    std::optional<Tensor> rel_col, Tensor lse, int64_t heads, int64_t kernel_rows, int64_t kernel_cols,
    int64_t dilation_rows, int64_t dilation_cols, double scale, int64_t pool, bool channels_last) {
  const LocalProblem p = problem_of(q, k, v, rel_row, rel_col,
                                    {heads, kernel_rows, kernel_cols, dilation_rows, dilation_cols, scale, pool});
  STD_TORCH_CHECK(grad.is_cpu() && grad.dim() == 4 && grad.scalar_type() == q.scalar_type() &&
                      grad.size(0) == p.batch && grad.size(1) == v.size(1) &&
                      grad.size(2) == (p.height + pool - 1) / pool &&
                      grad.size(3) == (p.width + pool - 1) / pool,
                  "grad: expected the output's shape and dtype");
  STD_TORCH_CHECK(lse.is_cpu() && lse.is_contiguous() && lse.scalar_type() == arithmetic_of(q) &&
                      lse.numel() == p.batch * p.heads * p.height * p.width,
                  "lse: expected what the forward pass saved");
  const ScalarType dtype = q.scalar_type(), arithmetic = arithmetic_of(q);
  const int64_t half = p.head_dim / 2;
  Tensor grad_q = empty({p.batch, q.size(1), p.height, p.width}, dtype, channels_last);
  Tensor grad_k = empty({p.batch, k ? q.size(1) : 0, p.height, p.width}, dtype, channels_last);
  Tensor grad_v = empty({p.batch, v.size(1), p.height, p.width}, dtype, channels_last);
  Tensor grad_row = empty({rel_row ? p.batch : 0, heads, kernel_rows, half}, arithmetic);
  Tensor grad_col = empty({rel_col ? p.batch : 0, heads, kernel_cols, half}, arithmetic);
  const LocalKernels& kernels = chosen_local_kernels();
  const LocalBackward b{p,
                        data_of("lse", lse),
                        map_of("grad", grad),
                        map_of("grad_q", grad_q),
                        map_of("grad_k", grad_k),
                        map_of("grad_v", grad_v),
                        rel_row ? grad_row.mutable_data_ptr() : nullptr,
                        rel_col ? grad_col.mutable_data_ptr() : nullptr};
  run(p, b, kernels.backward_tasks, kernels.backward);
  return {grad_q, grad_k, grad_v, sum_of_parts(grad_row, {rel_row ? heads : 0, kernel_rows, half}),
          sum_of_parts(grad_col, {rel_col ? heads : 0, kernel_cols, half})};
}

}  // namespace
}  // namespace sasa

STABLE_TORCH_LIBRARY_IMPL(sasa, CPU, m) {
  m.impl("local_attention", TORCH_BOX(&sasa::local_attention));
  m.impl("pack_projection", TORCH_BOX(&sasa::pack_projection));
  m.impl("local_self_attention", TORCH_BOX(&sasa::local_self_attention));
  m.impl("local_attention_backward", TORCH_BOX(&sasa::local_attention_backward));
}
