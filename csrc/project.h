// Pointwise projections of some pixels, as a matrix product in registers.
//
// x:      tiles of kTilePixels pixels, planar: [tile][channel][kLanes]
// panels: the weights of kPanel outputs: their biases, then [channel][kPanel]
//
// bfloat16 is multiplied in pairs of channels where the machine can; there a channel is such a pair.
#pragma once

#include "vec.h"

namespace sasa {
namespace SASA_CAPABILITY {

// Pixels and vectors of outputs that are summed at a time: as many sums as registers hold.
#if defined(__AVX512F__)
constexpr int kTilePixels = 14;
#elif defined(__AVX2__)
constexpr int kTilePixels = 6;
#else
constexpr int kTilePixels = 4;
#endif
template <typename T>
constexpr int kTile = kTilePixels < kLanes<T> ? kTilePixels : kLanes<T>;
template <typename T>
constexpr int kPanel = 2 * kLanes<T>;

// sum + x · w, lane by lane, or for pairs of bfloat16 in the lanes the sum of both products.
template <typename T, bool PAIRS>
SASA_INLINE void multiply_add(Vec<T>& sum, Vec<T> x, Vec<T> w) {
#if defined(__AVX512F__)
  if constexpr (PAIRS) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));  // of AVX512_BF16: only where it was looked for
    return;
  }
#endif
  sum += x * w;
}

template <typename T, int PIXELS, bool PAIRS>
SASA_INLINE void project_pixels(const T* x, int64_t channels, const T* panel, T* out, int64_t out_pitch) {
  constexpr int N = kLanes<T>;
  Vec<T> sum[PIXELS][2];
#pragma GCC unroll 16
  for (int i = 0; i < PIXELS; ++i) {
    sum[i][0] = load<T>(panel);
    sum[i][1] = load<T>(panel + N);
  }
  for (int64_t c = 0; c < channels; ++c, x += N) {
    panel += 2 * N;
    const Vec<T> w[2] = {load<T>(panel), load<T>(panel + N)};
#pragma GCC unroll 16
    for (int i = 0; i < PIXELS; ++i) {
      Vec<T> pixel = broadcast<T>(x[i]);
      keep(pixel);
      multiply_add<T, PAIRS>(sum[i][0], pixel, w[0]);
      multiply_add<T, PAIRS>(sum[i][1], pixel, w[1]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < PIXELS; ++i) {
    store<T>(out + i * out_pitch, sum[i][0]);
    store<T>(out + i * out_pitch + N, sum[i][1]);
  }
}

// out[pixel · out_pitch + output] of up to a tile of pixels and one panel.
template <typename T, bool PAIRS>
void project(const T* x, int64_t pixels, int64_t channels, const T* panel, T* out, int64_t out_pitch) {
  int64_t i = 0;
  const auto run = [&](auto count) __attribute__((always_inline)) {
    constexpr int PIXELS = decltype(count)::value;
    if constexpr (PIXELS <= kTile<T>)
      for (; i + PIXELS <= pixels; i += PIXELS)
        project_pixels<T, PIXELS, PAIRS>(x + i, channels, panel, out + i * out_pitch, out_pitch);
  };
  run(std::integral_constant<int, kTile<T>>());
  run(std::integral_constant<int, 7>());
  run(std::integral_constant<int, 4>());
  run(std::integral_constant<int, 2>());
  run(std::integral_constant<int, 1>());
}

}  // namespace SASA_CAPABILITY
}  // namespace sasa
