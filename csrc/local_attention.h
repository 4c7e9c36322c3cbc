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

// Where q, k and v are pointwise projections of x (B, C, H, W) that are computed on the way: row
// n of the weight (N·D + N·D + N·Dv, C), or without keys (N·D + N·Dv, C), gives output n.
struct Projection {
  Map x;
  int64_t channels;
  const void* weight;  // of the maps' storage
  int64_t weight_output, weight_channel;  // its strides
  const void* bias;    // contiguous; null: none
  const void* panels;  // the weights as the kernels want them
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
  int64_t (*panels)(const Forward&);      // of a projection's weights: their number
  int64_t (*panel_size)(const Forward&);  // elements of one, of the arithmetic's type
  void (*pack_panels)(const Forward&, void* panels, int64_t begin, int64_t end);
  int64_t (*forward_tasks)(const Forward&);
  void (*forward)(const Forward&, int64_t begin, int64_t end);
  int64_t (*backward_tasks)(const Backward&);
  void (*backward)(const Backward&, int64_t begin, int64_t end);
};

}  // namespace sasa
