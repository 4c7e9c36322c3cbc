// The kernels' tasks on threads, for ThreadSanitizer (`make sanitize-threads`): torch's own threads are those of OpenMP,
// whose synchronization the sanitizer does not see. Exits with 1 if the results depend on the number of threads.
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "block_attention/block_attention.h"
#include "local_attention/local_attention.h"

namespace sasa {
namespace SASA_CAPABILITY {
extern const LocalKernels local_kernels;
extern const BlockKernels block_kernels;
}  // namespace SASA_CAPABILITY
}  // namespace sasa

namespace {

using namespace sasa;
const LocalKernels& local = SASA_CAPABILITY::local_kernels;
const BlockKernels& block = SASA_CAPABILITY::block_kernels;

constexpr int64_t B = 2, N = 2, D = 8, H = 9, W = 21, K = 3;

std::vector<float> numbers(int64_t count) {
  std::vector<float> x(count);
  uint32_t state = 1;
  for (float& y : x) y = float((state = state * 1664525 + 1013904223) >> 8) / float(1 << 24) - 0.5f;
  return x;
}

Map map_of(const std::vector<float>& x, int64_t channels, int64_t height, int64_t width) {
  return {const_cast<float*>(x.data()), channels * height * width, height * width, width, 1};
}

template <typename Arguments>
void run(int64_t threads, int64_t tasks, const Arguments& arguments,
         void (*kernel)(const Arguments&, int64_t begin, int64_t end)) {
  std::vector<std::thread> running;
  for (int64_t i = 0; i < threads; ++i)
    running.emplace_back(kernel, std::cref(arguments), tasks * i / threads, tasks * (i + 1) / threads);
  for (std::thread& thread : running) thread.join();
}

void append(std::vector<float>& all, std::initializer_list<const std::vector<float>*> parts) {
  for (const auto* part : parts) all.insert(all.end(), part->begin(), part->end());
}

// Outputs and gradients of local attention, and outputs of the projected form.
void run_local(int64_t threads, int64_t pool, std::vector<float>& results) {
  const int64_t C = N * D, rows = (H + pool - 1) / pool, columns = (W + pool - 1) / pool;
  const auto q = numbers(B * C * H * W), rel = numbers(N * K * D / 2), grad = numbers(B * C * rows * columns);
  LocalProblem p{};
  p.storage = Storage::kFloat32;
  p.batch = B, p.heads = N, p.head_dim = p.value_head_dim = D, p.height = H, p.width = W;
  p.kernel_rows = p.kernel_cols = K, p.dilation_rows = p.dilation_cols = 1;
  p.scale = 0.7, p.pool = pool, p.content = true;
  p.q = p.k = p.v = map_of(q, C, H, W);
  p.rel_row = p.rel_col = rel.data();

  std::vector<float> out(grad.size()), lse(B * N * H * W), projected(grad.size());
  const LocalForward forward{p, false, map_of(out, C, rows, columns), lse.data(), threads};
  run(threads, local.forward_tasks(forward), forward, local.forward);

  std::vector<float> grad_q(q.size()), grad_k(q.size()), grad_v(q.size()), grad_row(B * rel.size()),
      grad_col(B * rel.size());
  const LocalBackward backward{p,
                               lse.data(),
                               map_of(grad, C, rows, columns),
                               map_of(grad_q, C, H, W),
                               map_of(grad_k, C, H, W),
                               map_of(grad_v, C, H, W),
                               grad_row.data(),
                               grad_col.data()};
  run(threads, local.backward_tasks(backward), backward, local.backward);

  const int64_t panels = (C + kPanel - 1) / kPanel;
  const auto weight = numbers(3 * C * C);
  std::vector<float> packed(3 * panels * (C + 1) * kPanel);
  const ProjectionWeights weights{p.storage, 3, C, C, weight.data(), C, 1, nullptr, packed.data()};
  run(threads, 3 * panels, weights, local.pack_panels);
  const Projection projection{p.q, C, packed.data()};
  const LocalForward fused{p, true, map_of(projected, C, rows, columns), nullptr, threads, &projection};
  run(threads, local.forward_tasks(fused), fused, local.forward);
  append(results, {&out, &lse, &grad_q, &grad_k, &grad_v, &grad_row, &grad_col, &packed, &projected});
}

// Outputs, statistics and gradients of attention inside blocks.
void run_block(int64_t threads, std::vector<float>& results) {
  const int64_t channels = 3, side = 4, positions = side * side, outputs = N * D;
  const auto x = numbers(B * channels * H * W), qk = numbers(N * channels * channels),
             rel = numbers(N * channels * positions * positions), v = numbers(positions * outputs * channels);
  const BlockProblem p{Storage::kFloat32, B,         channels,   N,       D, side, H, W, map_of(x, channels, H, W),
                       qk.data(),         rel.data(), v.data()};
  const int64_t rows = p.rows(), columns = p.columns(), chunks = 4;
  std::vector<float> out(B * outputs * rows * columns), statistics(B * rows * 2 * outputs);
  const BlockForward forward{p, true, map_of(out, outputs, rows, columns), statistics.data()};
  run(threads, B * rows, forward, block.forward);
  const auto grad = numbers(out.size()), given = numbers(3 * outputs);
  std::vector<float> grad_qk(chunks * qk.size()), grad_rel(chunks * rel.size()), grad_v(chunks * v.size());
  const BlockBackward backward{p,           true,           map_of(grad, outputs, rows, columns), given.data(), chunks,
                               grad_qk.data(), grad_rel.data(), grad_v.data()};
  run(threads, chunks, backward, block.backward);
  append(results, {&out, &statistics, &grad_qk, &grad_rel, &grad_v});
}

std::vector<float> results_of(int64_t threads) {
  std::vector<float> results;
  for (const int64_t pool : {1, 2}) run_local(threads, pool, results);
  run_block(threads, results);
  return results;
}

}  // namespace

int main() {
  const std::vector<float> alone = results_of(1);
  for (const int64_t threads : {2, 5})
    for (int again = 0; again < 3; ++again)
      if (results_of(threads) != alone) {
        std::printf("%d threads: expected the bits of one thread, got others\n", int(threads));
        return 1;
      }
  std::printf("%zu numbers with 1, 2 and 5 threads: the same bits\n", alone.size());
}
