// The windows of queries on a map, and the packed rows that hold what they reach.
#pragma once

#include <limits>

#include "common/vec.h"
#include "local_attention/local_attention.h"

namespace sasa {
namespace SASA_CAPABILITY {

// What both passes derive from a problem.
template <typename T>
struct Window {
  int64_t kernel_rows, kernel_cols, dilation_rows, dilation_cols;
  int64_t height, width;
  int64_t reach_rows, reach_cols;  // of the window from its center, in pixels
  int64_t positions;
  int64_t columns;  // of a packed row: the map's, rounded up to vectors, and the reach at both sides

  explicit Window(const LocalProblem& p)
      : kernel_rows(p.kernel_rows),
        kernel_cols(p.kernel_cols),
        dilation_rows(p.dilation_rows),
        dilation_cols(p.dilation_cols),
        height(p.height),
        width(p.width),
        reach_rows(p.kernel_rows / 2 * p.dilation_rows),
        reach_cols(p.kernel_cols / 2 * p.dilation_cols),
        positions(p.kernel_rows * p.kernel_cols),
        columns(round_up(p.width, kLanes<T>) + 2 * (p.kernel_cols / 2 * p.dilation_cols)) {}

  int64_t key_row(int64_t y, int64_t a) const { return y + a * dilation_rows - reach_rows; }

  // The window rows [first, last) of a query in row y that lie inside the map.
  void rows_inside(int64_t y, int64_t* first, int64_t* last) const {
    *first = 0;
    *last = kernel_rows;
    while (key_row(y, *first) < 0) ++*first;
    while (key_row(y, *last - 1) >= height) --*last;
  }

  // −∞ where the window column b of a query lies outside the map, else 0; queries beyond the map get 0.
  void mask_columns(int64_t first_query, T* mask) const {
    for (int64_t b = 0; b < kernel_cols; ++b)
      for (int64_t lane = 0; lane < kLanes<T>; ++lane) {
        const int64_t j = first_query + lane, x = j + b * dilation_cols - reach_cols;
        const bool outside = j < width && (x < 0 || x >= width);
        mask[b * kLanes<T> + lane] = outside ? -std::numeric_limits<T>::infinity() : T(0);
      }
  }
};

}  // namespace SASA_CAPABILITY
}  // namespace sasa
