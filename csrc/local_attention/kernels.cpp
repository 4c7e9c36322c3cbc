// The kernels of local attention, compiled once per capability.
#include "local_attention/backward.h"
#include "local_attention/forward.h"
#include "local_attention/local_attention.h"
#include "local_attention/project.h"

namespace sasa {
namespace SASA_CAPABILITY {
namespace {

template <template <typename> class Pass, typename Arguments>
int64_t tasks(const Arguments& a) {
  return with_storage(a.problem.storage, [&](auto s) { return Pass<decltype(s)>(a).tasks(); });
}

template <template <typename> class Pass, typename Arguments>
void run(const Arguments& a, int64_t begin, int64_t end) {
  with_storage(a.problem.storage, [&](auto s) { Pass<decltype(s)>(a).run(begin, end); });
}

void pack(const ProjectionWeights& a, int64_t begin, int64_t end) {
  with_storage(a.storage, [&](auto s) { pack_panels<decltype(s)>(a, begin, end); });
}

}  // namespace

extern const LocalKernels local_kernels;
const LocalKernels local_kernels = {
    pack,
    tasks<ForwardPass, LocalForward>, run<ForwardPass, LocalForward>,
    tasks<BackwardPass, LocalBackward>, run<BackwardPass, LocalBackward>,
};

}  // namespace SASA_CAPABILITY
}  // namespace sasa
