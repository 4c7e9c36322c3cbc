// What the registration (block_attention.cpp) and the kernels of each capability agree on. No torch in here.
#pragma once

#include "local_attention.h"  // Storage, Map

namespace sasa {

// Shapes as in sasa.ops.block_attention, with C channels, N heads, P = block² positions of a square and
// D = O / N channels of a head: x (B, C, H, W); qk_weight (N, C, C), rel_weight (N, C, P, P) and v_weight (P, O, C)
// are contiguous and of the arithmetic's type.
struct BlockProblem {
  Storage storage;
  int64_t batch, channels, heads, width, block_size, height, map_width;
  Map x;
  const void* qk_weight;
  const void* rel_weight;
  const void* v_weight;

  int64_t rows() const { return (height + block_size - 1) / block_size; }      // of squares, in an image
  int64_t columns() const { return (map_width + block_size - 1) / block_size; }
};

struct SquareForward {
  BlockProblem problem;
  bool max_pool;
  Map out;  // (B, O, H, W), or (B, O, rows, columns) with max_pool
  // With max_pool: of every row of squares of the batch the mean of the outputs before the maximum and the sum of
  // the squares of their deviations from it, (B · rows, 2, O) of the arithmetic's type. Null: not wanted.
  void* statistics;
};

// The rows of squares of the whole batch are divided into chunks, which does not depend on the threads; each
// chunk sums its own gradients, (chunks, *the argument's shape).
struct SquareBackward {
  BlockProblem problem;
  bool max_pool;
  Map grad_out;  // as the output
  // With max_pool: mean, shift and slope of each output channel, (3, O) of the arithmetic's type; every output has
  // the gradient shift + slope · (output − mean) beside that of the maximum.
  const void* statistics;
  int64_t chunks;
  void* grad_forms;
  void* grad_relative;
  void* grad_matrices;
};

// The kernels of one capability, for the tasks begin … end − 1: rows of squares, or chunks of them.
struct SquareKernels {
  void (*forward)(const SquareForward&, int64_t begin, int64_t end);
  void (*backward)(const SquareBackward&, int64_t begin, int64_t end);
};

}  // namespace sasa
