// The kernels of block attention, compiled once per capability.
#include "block_attention/block_attention.h"
#include "block_attention/pass.h"

namespace sasa {
namespace SASA_CAPABILITY {
namespace {

// Calls use(pass) with the pass that is compiled for the shape, if any, else with that for all shapes.
template <typename S, typename Use>
void with_shape(const BlockProblem& p, Use use) {
  if constexpr (!std::is_same_v<S, double>)
    if (p.channels == 3 && p.block_size == 4 && p.head_dim == 16) return use(BlockPass<S, 3, 16, 16>(p));
  if constexpr (std::is_same_v<S, float>)
    if (p.block_size == 4 && p.head_dim == 4) {  // small networks, on gray and on RGB
      if (p.channels == 1) return use(BlockPass<S, 1, 16, 4>(p));
      if (p.channels == 3) return use(BlockPass<S, 3, 16, 4>(p));
    }
  use(BlockPass<S, 0, 0, 0>(p));
}

void forward(const BlockForward& f, int64_t begin, int64_t end) {
  with_storage(f.problem.storage, [&](auto s) {
    with_shape<decltype(s)>(f.problem, [&](auto pass) { pass.forward(f, begin, end); });
  });
}

void backward(const BlockBackward& b, int64_t begin, int64_t end) {
  with_storage(b.problem.storage, [&](auto s) {
    with_shape<decltype(s)>(b.problem, [&](auto pass) { pass.backward(b, begin, end); });
  });
}

}  // namespace

extern const BlockKernels block_kernels;
const BlockKernels block_kernels = {forward, backward};

}  // namespace SASA_CAPABILITY
}  // namespace sasa
