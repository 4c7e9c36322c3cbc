// What the registration (register.cpp) and the kernels of each capability agree on. No torch in here.
#pragma once

#include <cstdint>

namespace sasa {

enum class Storage { kFloat32, kBFloat16, kFloat64 };

// A map (B, C, H, W) in memory: strides in elements, any of them.
struct Map {
  void* data = nullptr;  // null: absent
  int64_t batch = 0, channel = 0, row = 0, column = 0;
};

// Shapes as in sasa.local_attention: q, k (B, N·D, H, W), v (B, N·Dv, H, W).
// rel_row (N, kh, D/2), rel_col (N, kw, D/2) and lse (B, N, H, W) are contiguous and of the arithmetic's
// type: double for float64 storage, float otherwise. lse holds log2 of the sum of 2^(logit·log2 e).
struct Problem {
  Storage storage;
  int64_t batch, heads, width, value_width, height, map_width;
  int64_t kernel_rows, kernel_cols, dilation_rows, dilation_cols;
  double scale;
  int64_t pool;
  bool content;  // whether there are keys
  Map q, k, v;
  const void* rel_row;
  const void* rel_col;
};

// Outputs whose weights lie together.
constexpr int kPanel = 32;

// Weights of the pointwise projections of C channels to the parts q, k and v, or q and v, N·D outputs each.
struct ProjectionWeights {
  Storage storage;
  int64_t parts, outputs, channels;
  const void* weight;  // (parts · outputs, channels)
  int64_t output_stride, channel_stride;
  const void* bias;  // contiguous; null: none
};

// Where q, k and v are projected from x (B, C, H, W) on the way. The panels are those of `pack_panels`.
struct Projection {
  Map x;
  int64_t channels;
  const void* panels;
};

struct Forward {
  Problem problem;
  bool relu;
  Map out;    // (B, N·Dv, ceil(H/pool), ceil(W/pool))
  void* lse;  // null: not wanted
  int64_t threads;  // that the tasks are for; results do not depend on it
  const Projection* projection = nullptr;  // null: q, k and v are given
};

struct Backward {
  Problem problem;
  const void* lse;
  Map grad_out;
  Map grad_q, grad_k, grad_v;
  // Each image's share: (B, N, kh, D/2) and (B, N, kw, D/2), null where there is no embedding.
  void* grad_rel_row;
  void* grad_rel_col;
};

// The kernels of one capability. Work is counted in tasks that are independent of each other; a range of
// tasks gives the same bits as the same tasks one by one.
struct Kernels {
  void (*pack_panels)(const ProjectionWeights&, void* panels, int64_t begin, int64_t end);
  int64_t (*forward_tasks)(const Forward&);
  void (*forward)(const Forward&, int64_t begin, int64_t end);
  int64_t (*backward_tasks)(const Backward&);
  void (*backward)(const Backward&, int64_t begin, int64_t end);
};

}  // namespace sasa
