// The ops that exported networks call. In Python, sasa defines them itself.
#pragma once

#include <torch/library.h>

TORCH_LIBRARY(sasa, library) {
  library.def(
      "local_attention(Tensor q, Tensor? k, Tensor v, Tensor? rel_row, Tensor? rel_col, int num_heads, "
      "int kernel_rows, int kernel_cols, int dilation_rows, int dilation_cols, float scale, int pool, bool relu, "
      "bool channels_last, bool save_lse) -> (Tensor out, Tensor lse)");
  library.def(
      "local_self_attention(Tensor x, Tensor packed, Tensor? rel_row, Tensor? rel_col, int channels, int num_heads, "
      "int kernel_rows, int kernel_cols, int dilation_rows, int dilation_cols, float scale, int pool, bool content, "
      "bool relu, bool channels_last) -> Tensor");
  library.def("pack_projection(Tensor weight, Tensor? bias, int parts) -> Tensor");
  library.def(
      "block_attention(Tensor x, Tensor qk_weight, Tensor rel_weight, Tensor v_weight, int block_size, "
      "bool max_pool, bool channels_last) -> Tensor");
}
