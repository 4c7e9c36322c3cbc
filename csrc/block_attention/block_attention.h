// The interface between block_attention.cpp, which registers the ops, and the kernels of each capability.
// Without torch.
#pragma once

#include <cstdint>

#include "common/map.h"

namespace sasa {

// Shapes as in sasa.ops.block_attention, with C channels, N heads, P = block² positions of a block and
// D = O / N channels of a head: x (B, C, H, W); qk_weight (N, C, C), rel_weight (N, C, P, P) and v_weight (P, O, C)
// are contiguous and of the arithmetic's type.
struct BlockProblem {
  Storage storage;
  int64_t batch, channels, heads, head_dim, block_size, height, width;
  Map x;
  const void* qk_weight;
  const void* rel_weight;
  const void* v_weight;

  // Rows and columns of blocks in an image.
  int64_t rows() const { return (height + block_size - 1) / block_size; }
  int64_t columns() const { return (width + block_size - 1) / block_size; }
};

struct BlockForward {
  BlockProblem problem;
  bool max_pool;
  Map out;  // (B, O, H, W), or (B, O, rows, columns) with max_pool
  // With max_pool: for every row of blocks of the batch the mean of the outputs before the maximum and the sum of
  // their squared deviations from it, (B · rows, 2, O) of the arithmetic's type. Null: not computed.
  void* statistics;
};

// The rows of blocks of the whole batch are divided into chunks, whose number does not depend on the threads. Each
// chunk has gradients of its own, (chunks, *the argument's shape).
struct BlockBackward {
  BlockProblem problem;
  bool max_pool;
  Map grad_out;  // as the output
  // With max_pool: mean, shift and slope of each output channel, (3, O) of the arithmetic's type. The gradient of
  // every output is that of the maximum plus shift + slope · (output − mean).
  const void* statistics;
  int64_t chunks;
  void* grad_qk_weight;
  void* grad_rel_weight;
  void* grad_v_weight;
};

// The kernels of one capability. A task is a row of blocks (forward) or a chunk of such rows (backward).
struct BlockKernels {
  void (*forward)(const BlockForward&, int64_t begin, int64_t end);
  void (*backward)(const BlockBackward&, int64_t begin, int64_t end);
};

}  // namespace sasa
