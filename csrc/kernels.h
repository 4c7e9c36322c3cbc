// The kernels of the capability that this file is compiled for: included once in each capability's source.
#pragma once

#include "backward.h"
#include "forward.h"

namespace sasa {
namespace SASA_CAPABILITY {

template <template <typename> class Pass, typename Arguments, typename Use>
auto with_storage(const Arguments& a, Use use) {
  switch (a.problem.storage) {
    case Storage::kFloat32: return use(Pass<float>(a));
    case Storage::kBFloat16: return use(Pass<BFloat16>(a));
    default: return use(Pass<double>(a));
  }
}

template <template <typename> class Pass, typename Arguments>
int64_t tasks(const Arguments& a) {
  return with_storage<Pass>(a, [](auto pass) { return pass.tasks(); });
}

template <template <typename> class Pass, typename Arguments>
void run(const Arguments& a, int64_t begin, int64_t end) {
  with_storage<Pass>(a, [=](auto pass) { pass.run(begin, end); });
}

inline void pack_panels_of(const ProjectionWeights& w, void* panels, int64_t begin, int64_t end) {
  switch (w.storage) {
    case Storage::kFloat32: return pack_panels<float>(w, panels, begin, end);
    case Storage::kBFloat16: return pack_panels<BFloat16>(w, panels, begin, end);
    default: return pack_panels<double>(w, panels, begin, end);
  }
}

extern const Kernels kernels;
const Kernels kernels = {
    pack_panels_of,
    tasks<ForwardPass, Forward>, run<ForwardPass, Forward>,
    tasks<BackwardPass, Backward>, run<BackwardPass, Backward>,
};

}  // namespace SASA_CAPABILITY
}  // namespace sasa
