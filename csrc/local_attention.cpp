// The ops of sasa/ops/local_attn/schema.py for CPU tensors: arguments to plain structs, capability to
// kernels, tasks to torch's threads.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "capability.h"
#include "tensors.h"

namespace sasa {

namespace portable {
extern const Kernels kernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
#endif

namespace {

const Kernels& chosen_kernels() {
#if defined(__x86_64__)
  const Capability capability = chosen_capability();
  if (capability == Capability::kAvx512) return avx512::kernels;
  if (capability == Capability::kAvx2) return avx2::kernels;
#else
  chosen_capability();
#endif
  return portable::kernels;
}

struct Options {
  int64_t heads, kernel_rows, kernel_cols, dilation_rows, dilation_cols;
  double scale;
  int64_t pool;
};

void check_map(const char* name, const Tensor& x, const Tensor& q) {
  STD_TORCH_CHECK(x.is_cpu() && x.dim() == 4 && x.scalar_type() == q.scalar_type() && x.size(0) == q.size(0) &&
                      x.size(2) == q.size(2) && x.size(3) == q.size(3),
                  name, ": expected a CPU map of q's dtype, batch and size");
}

void check_embedding(const char* name, const std::optional<Tensor>& x, const Problem& p, int64_t taps,
                     ScalarType arithmetic) {
  STD_TORCH_CHECK(!x || (x->is_cpu() && x->is_contiguous() && x->scalar_type() == arithmetic && x->dim() == 3 &&
                         x->size(0) == p.heads && x->size(1) == taps && 2 * x->size(2) == p.width),
                  name, ": expected a contiguous (num_heads, extent, D/2) of the arithmetic's dtype");
}

void check_options(const Options& o) {
  STD_TORCH_CHECK(o.heads >= 1 && o.kernel_rows % 2 == 1 && o.kernel_cols % 2 == 1 && o.dilation_rows >= 1 &&
                      o.dilation_cols >= 1 && (o.pool == 1 || o.pool == 2),
                  "call sasa.local_attention, which checks its arguments");
}

// All but q, k and v.
Problem problem_of(const Tensor& map, int64_t width, int64_t value_width, bool content,
                   const std::optional<Tensor>& rel_row, const std::optional<Tensor>& rel_col,
                   const Options& o) {
  Problem p;
  p.storage = storage_of(map);
  p.batch = map.size(0), p.heads = o.heads;
  p.width = width, p.value_width = value_width;
  p.height = map.size(2), p.map_width = map.size(3);
  p.kernel_rows = o.kernel_rows, p.kernel_cols = o.kernel_cols;
  p.dilation_rows = o.dilation_rows, p.dilation_cols = o.dilation_cols;
  p.scale = o.scale, p.pool = o.pool;
  p.content = content;
  check_embedding("rel_row", rel_row, p, o.kernel_rows, arithmetic_of(map));
  check_embedding("rel_col", rel_col, p, o.kernel_cols, arithmetic_of(map));
  p.rel_row = data_of(rel_row), p.rel_col = data_of(rel_col);
  return p;
}

Problem problem_of(const Tensor& q, const std::optional<Tensor>& k, const Tensor& v,
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
  Problem p = problem_of(q, q.size(1) / o.heads, v.size(1) / o.heads, k.has_value(), rel_row, rel_col, o);
  p.q = map_of(q), p.k = map_of(k), p.v = map_of(v);
  return p;
}

int64_t packed_channels(const Tensor& x) {
  return x.scalar_type() == ScalarType::BFloat16 ? (x.size(1) + 1) / 2 : x.size(1);
}

template <typename Arguments>
void run(const Problem& p, const Arguments& arguments, int64_t tasks,
         void (*kernel)(const Arguments&, int64_t, int64_t)) {
  const double work = double(p.batch) * p.heads * p.height * p.map_width * p.kernel_rows * p.kernel_cols *
                      double(p.width + p.value_width);
  const int64_t grain = std::max<int64_t>(1, int64_t(kGrain * double(tasks) / std::max(work, 1.0)));
  torch::stable::parallel_for(0, tasks, grain,
                              [&](int64_t begin, int64_t end) { kernel(arguments, begin, end); });
}

std::tuple<Tensor, Tensor> local_attention(Tensor q, std::optional<Tensor> k, Tensor v,
                                           std::optional<Tensor> rel_row, std::optional<Tensor> rel_col,
                                           int64_t heads, int64_t kernel_rows, int64_t kernel_cols,
                                           int64_t dilation_rows, int64_t dilation_cols, double scale,
                                           int64_t pool, bool relu, bool channels_last, bool save_lse) {
  const Problem p = problem_of(q, k, v, rel_row, rel_col,
                               {heads, kernel_rows, kernel_cols, dilation_rows, dilation_cols, scale, pool});
  Tensor out = empty({p.batch, v.size(1), (p.height + pool - 1) / pool, (p.map_width + pool - 1) / pool},
                     q.scalar_type(), channels_last);
  Tensor lse = empty({save_lse ? p.batch : 0, p.heads, p.height, p.map_width}, arithmetic_of(q));
  const Kernels& kernels = chosen_kernels();
  const Forward f{p, relu, map_of(out), save_lse ? lse.mutable_data_ptr() : nullptr,
                  torch::stable::get_num_threads()};
  if (p.batch > 0) run(p, f, kernels.forward_tasks(f), kernels.forward);
  return {out, lse};
}

// The weights of a 1 × 1 convolution as `local_self_attention` wants them: for each part (q, k and v) panels of
// kPanel outputs, (parts, panels, channels + 1, kPanel): the biases, then channel by channel. Of bfloat16 in pairs.
Tensor pack_projection(Tensor weight, std::optional<Tensor> bias, int64_t parts) {
  STD_TORCH_CHECK(weight.is_cpu() && weight.dim() == 4 && weight.size(0) % parts == 0 && weight.size(2) == 1 &&
                      weight.size(3) == 1,
                  "weight: expected (parts · N·D, C, 1, 1) on a CPU");
  STD_TORCH_CHECK(!bias || (bias->is_cpu() && bias->is_contiguous() && bias->dim() == 1 &&
                            bias->scalar_type() == weight.scalar_type() && bias->size(0) == weight.size(0)),
                  "bias: expected one contiguous number an output of the weight's dtype");
  const ProjectionWeights w{storage_of(weight),      parts,
                            weight.size(0) / parts,  weight.size(1),
                            weight.const_data_ptr(), weight.stride(0),
                            weight.stride(1),        data_of(bias)};
  const int64_t panels = (w.outputs + kPanel - 1) / kPanel;
  Tensor packed = empty({parts, panels, packed_channels(weight) + 1, kPanel}, arithmetic_of(weight));
  const auto pack = chosen_kernels().pack_panels;
  void* memory = packed.mutable_data_ptr();
  torch::stable::parallel_for(0, parts * panels, 4,
                              [&](int64_t begin, int64_t end) { pack(w, memory, begin, end); });
  return packed;
}

// With q, k and v projected from x on the way; nothing is kept for a backward pass.
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
  STD_TORCH_CHECK(channels % heads == 0 && packed.is_cpu() && packed.is_contiguous() && packed.dim() == 4 &&
                      packed.scalar_type() == arithmetic_of(x) && packed.size(0) == (content ? 3 : 2) &&
                      packed.size(1) == (channels + kPanel - 1) / kPanel &&
                      packed.size(2) == packed_channels(x) + 1 && packed.size(3) == kPanel,
                  "packed: expected sasa::pack_projection's result for x's channels and dtype");
  const Problem p = problem_of(x, channels / heads, channels / heads, content, rel_row, rel_col, o);
  Tensor out = empty({p.batch, channels, (p.height + pool - 1) / pool, (p.map_width + pool - 1) / pool},
                     x.scalar_type(), channels_last);
  const Projection projection{map_of(x), x.size(1), packed.const_data_ptr()};
  const Forward f{p, relu, map_of(out), nullptr, torch::stable::get_num_threads(), &projection};
  const Kernels& kernels = chosen_kernels();
  if (p.batch > 0) run(p, f, kernels.forward_tasks(f), kernels.forward);
  return out;
}

// The sum over the images of what each contributed, in their order.
template <typename T>
void sum_images(const Tensor& shares, Tensor& sum) {
  const T* share = static_cast<const T*>(shares.const_data_ptr());
  T* to = static_cast<T*>(sum.mutable_data_ptr());
  const int64_t count = sum.numel();
  std::fill(to, to + count, T(0));
  for (int64_t image = 0; image < shares.size(0); ++image)
    for (int64_t i = 0; i < count; ++i) to[i] += share[image * count + i];
}

Tensor sum_of_images(const Tensor& shares, bool wanted) {
  Tensor sum = empty({wanted ? shares.size(1) : 0, shares.size(2), shares.size(3)}, shares.scalar_type());
  if (!wanted) return sum;
  if (shares.scalar_type() == ScalarType::Double)
    sum_images<double>(shares, sum);
  else
    sum_images<float>(shares, sum);
  return sum;
}

// The gradients of q, k, v, rel_row and rel_col; an empty one where there is none.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> local_attention_backward(
    Tensor grad, Tensor q, std::optional<Tensor> k, Tensor v, std::optional<Tensor> rel_row,
    std::optional<Tensor> rel_col, Tensor lse, int64_t heads, int64_t kernel_rows, int64_t kernel_cols,
    int64_t dilation_rows, int64_t dilation_cols, double scale, int64_t pool, bool channels_last) {
  const Problem p = problem_of(q, k, v, rel_row, rel_col,
                               {heads, kernel_rows, kernel_cols, dilation_rows, dilation_cols, scale, pool});
  STD_TORCH_CHECK(grad.is_cpu() && grad.dim() == 4 && grad.scalar_type() == q.scalar_type() &&
                      grad.size(0) == p.batch && grad.size(1) == v.size(1) &&
                      grad.size(2) == (p.height + pool - 1) / pool &&
                      grad.size(3) == (p.map_width + pool - 1) / pool,
                  "grad: expected the output's shape and dtype");
  STD_TORCH_CHECK(lse.is_contiguous() && lse.scalar_type() == arithmetic_of(q) &&
                      lse.numel() == p.batch * p.heads * p.height * p.map_width,
                  "lse: expected what the forward pass saved");
  const ScalarType dtype = q.scalar_type(), arithmetic = arithmetic_of(q);
  const int64_t half = p.width / 2;
  Tensor grad_q = empty({p.batch, q.size(1), p.height, p.map_width}, dtype, channels_last);
  Tensor grad_k = empty({p.batch, k ? q.size(1) : 0, p.height, p.map_width}, dtype, channels_last);
  Tensor grad_v = empty({p.batch, v.size(1), p.height, p.map_width}, dtype, channels_last);
  Tensor grad_row = empty({rel_row ? p.batch : 0, heads, kernel_rows, half}, arithmetic);
  Tensor grad_col = empty({rel_col ? p.batch : 0, heads, kernel_cols, half}, arithmetic);
  const Kernels& kernels = chosen_kernels();
  const Backward b{p,
                   lse.const_data_ptr(),
                   map_of(grad),
                   map_of(grad_q),
                   map_of(grad_k),
                   map_of(grad_v),
                   rel_row ? grad_row.mutable_data_ptr() : nullptr,
                   rel_col ? grad_col.mutable_data_ptr() : nullptr};
  if (p.batch > 0) run(p, b, kernels.backward_tasks(b), kernels.backward);
  return {grad_q, grad_k, grad_v, sum_of_images(grad_row, rel_row.has_value()),
          sum_of_images(grad_col, rel_col.has_value())};
}

}  // namespace
}  // namespace sasa

STABLE_TORCH_LIBRARY_IMPL(sasa, CPU, m) {
  m.impl("local_attention", TORCH_BOX(&sasa::local_attention));
  m.impl("pack_projection", TORCH_BOX(&sasa::pack_projection));
  m.impl("local_self_attention", TORCH_BOX(&sasa::local_self_attention));
  m.impl("local_attention_backward", TORCH_BOX(&sasa::local_attention_backward));
}
