// Pointwise projections of some pixels, as a matrix product in registers.
//
// x:      tiles of kTile pixels, planar: [tile][channel][kLanes]
// panels: kPanel biases, then the weights of these outputs [channel][kPanel]; the same for all capabilities
//
// bfloat16 is multiplied in pairs of channels, with AVX512_BF16 alone; a channel is such a pair there.
#pragma once

#include <algorithm>

#include "common/pack.h"
#include "local_attention/local_attention.h"

namespace sasa {
namespace SASA_CAPABILITY {

// Pixels of a tile, each with two vectors of outputs: as many sums as registers hold.
constexpr int kTilePixels = kVectorBytes == 64 ? 14 : kVectorBytes == 32 ? 6 : 4;
template <typename T>
constexpr int kTile = kTilePixels < kLanes<T> ? kTilePixels : kLanes<T>;

// The number of channels, or for bfloat16 of their pairs.
template <typename S>
int64_t channels_of(int64_t channels) {
  return std::is_same_v<S, BFloat16> ? (channels + 1) / 2 : channels;
}

// All channels of up to a vector's worth of pixels, planar.
template <typename S>
void pack_operand(const S* src, int64_t channel_stride, int64_t pixel_stride, int64_t channels, int64_t pixels,
                  Arithmetic<S>* planes, int64_t pitch) {
  if constexpr (std::is_same_v<S, BFloat16>)
    pack_pairs(src, channel_stride, pixel_stride, channels, pixels, reinterpret_cast<uint32_t*>(planes), pitch);
  else
    pack_planar<S>(src, channel_stride, pixel_stride, channels, pixels, planes, pitch, 0, Arithmetic<S>(1));
}

// The panels begin … end − 1 of a projection's weights.
template <typename S>
void pack_panels(const ProjectionWeights& w, int64_t begin, int64_t end) {
  using T = Arithmetic<S>;
  constexpr int N = kLanes<T>;
  const int64_t size = (channels_of<S>(w.channels) + 1) * kPanel;
  const int64_t in_part = (w.outputs + kPanel - 1) / kPanel;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t first = i % in_part * kPanel, count = std::min<int64_t>(kPanel, w.outputs - first);
    const int64_t output = i / in_part * w.outputs + first;
    T* panel = static_cast<T*>(w.panels) + i * size;
    std::fill_n(panel, size, T(0));
    if (w.bias)
      for (int64_t n = 0; n < count; ++n) panel[n] = to_arithmetic(static_cast<const S*>(w.bias)[output + n]);
    for (int64_t n = 0; n < count; n += N)
      pack_operand<S>(static_cast<const S*>(w.weight) + (output + n) * w.output_stride, w.channel_stride,
                      w.output_stride, w.channels, std::min<int64_t>(N, count - n), panel + kPanel + n, kPanel);
  }
}

// Adds x · w to sum, lane by lane; with PAIRS a lane holds two bfloat16, and the products of both are added.
template <typename T, bool PAIRS>
SASA_INLINE void multiply_add(Vec<T>& sum, Vec<T> x, Vec<T> w) {
#if defined(__AVX512F__)
  if constexpr (PAIRS) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));  // AVX512_BF16: PAIRS runs only if it is available
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
    panel += kPanel;
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
        for (int n = 0; n < kPanel; n += 2 * kLanes<T>)
          project_pixels<T, PIXELS, PAIRS>(x + i, channels, panel + n, out + i * out_pitch + n, out_pitch);
  };
  run(std::integral_constant<int, kTile<T>>());
  run(std::integral_constant<int, 7>());
  run(std::integral_constant<int, 4>());
  run(std::integral_constant<int, 2>());
  run(std::integral_constant<int, 1>());
}

}  // namespace SASA_CAPABILITY
}  // namespace sasa
