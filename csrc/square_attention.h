// What the registration (square_attention.cpp) and the kernels of each capability agree on. No torch in here.
#pragma once

#include "local_attention.h"  // Storage, Map

namespace sasa {

// Shapes as in sasa.ops.square_attention, with C channels, N heads, P = block² positions of a square and
// D = O / N channels of a head: x (B, C, H, W); forms (N, C, C), relative (N, C, P, P) and matrices (P, O, C)
// are contiguous and of the arithmetic's type.
struct SquareProblem {
  Storage storage;
  int64_t batch, channels, heads, width, block, height, map_width;
  Map x;
  const void* forms;
  const void* relative;
  const void* matrices;

  int64_t rows() const { return (height + block - 1) / block; }      // of squares, in an image
  int64_t columns() const { return (map_width + block - 1) / block; }
};

struct SquareForward {
  SquareProblem problem;
  bool pool;
  Map out;  // (B, O, H, W), or (B, O, rows, columns) with pool
  // With pool: of every row of squares of the batch the mean of the outputs before the maximum and the sum of
  // the squares of their deviations from it, (B · rows, 2, O) of the arithmetic's type. Null: not wanted.
  void* statistics;
};

// The rows of squares of the whole batch are divided into chunks, which does not depend on the threads; each
// chunk sums its own gradients, (chunks, *the argument's shape).
struct SquareBackward {
  SquareProblem problem;
  bool pool;
  Map grad_out;  // as the output
  // With pool: mean, shift and slope of each output channel, (3, O) of the arithmetic's type; every output has
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
