// The interface between local_attention.cpp, which registers the ops, and the kernels of each capability.
// Without torch.
#pragma once

#include <cstdint>

#include "common/map.h"

namespace sasa {

// Shapes as in sasa.local_attention: q, k (B, N·D, H, W), v (B, N·Dv, H, W), D = head_dim, Dv = value_head_dim.
// rel_row (N, kh, D/2), rel_col (N, kw, D/2) and lse (B, N, H, W) are contiguous and of the arithmetic's
// type: double for float64 storage, float otherwise. lse holds log2 of the sum of 2^(logit·log2 e).
struct LocalProblem {
  Storage storage;
  int64_t batch, heads, head_dim, value_head_dim, height, width;
  int64_t kernel_rows, kernel_cols, dilation_rows, dilation_cols;
  double scale;
  int64_t pool;
  bool content;  // whether there are keys
  Map q, k, v;
  const void* rel_row;
  const void* rel_col;
};

// The number of outputs whose weights lie together.
constexpr int kPanel = 32;

// Weights of the pointwise projections of C channels to the parts q, k and v, or q and v, N·D outputs each.
struct ProjectionWeights {
  Storage storage;
  int64_t parts, outputs, channels;
  const void* weight;  // (parts · outputs, channels)
  int64_t output_stride, channel_stride;
  const void* bias;  // contiguous; null: none
  void* panels;      // the result: (parts, panels, channels + 1, kPanel)
};

// The projection of x (B, C, H, W) to q, k and v inside the kernel. The panels are those of `pack_panels`.
struct Projection {
  Map x;
  int64_t channels;
  const void* panels;
};

struct LocalForward {
  LocalProblem problem;
  bool relu;
  Map out;    // (B, N·Dv, ceil(H/pool), ceil(W/pool))
  void* lse;  // null: not computed
  int64_t threads;  // the number that will run the tasks; results do not depend on it
  const Projection* projection = nullptr;  // null: q, k and v are given
};

struct LocalBackward {
  LocalProblem problem;
  const void* lse;
  Map grad_out;
  Map grad_q, grad_k, grad_v;
  // Each image's share: (B, N, kh, D/2) and (B, N, kw, D/2); null without the embedding.
  void* grad_rel_row;
  void* grad_rel_col;
};

// The kernels of one capability. The work is divided into tasks that are independent of each other: a range of
// tasks gives the same bits as the same tasks one by one.
struct LocalKernels {
  void (*pack_panels)(const ProjectionWeights&, int64_t begin, int64_t end);
  int64_t (*forward_tasks)(const LocalForward&);
  void (*forward)(const LocalForward&, int64_t begin, int64_t end);
  int64_t (*backward_tasks)(const LocalBackward&);
  void (*backward)(const LocalBackward&, int64_t begin, int64_t end);
};

}  // namespace sasa
