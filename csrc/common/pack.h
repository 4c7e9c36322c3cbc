// Copies between maps in memory, of any storage and strides, and the kernels' own buffers.
//
// planar:      [channel][column], neighboring pixels in neighboring lanes (for products over channels)
// pixel-major: [column][channel], neighboring channels in neighboring lanes (for weighted sums)
#pragma once

#include "common/map.h"
#include "common/vec.h"

namespace sasa {
namespace SASA_CAPABILITY {

struct BFloat16 {
  uint16_t bits;
};

template <typename S>
struct ArithmeticOf {
  using type = S;
};
template <>
struct ArithmeticOf<BFloat16> {
  using type = float;
};
template <typename S>
using Arithmetic = typename ArithmeticOf<S>::type;

SASA_INLINE float to_arithmetic(BFloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}
SASA_INLINE float to_arithmetic(float x) { return x; }
SASA_INLINE uint32_t to_arithmetic(uint32_t x) { return x; }
SASA_INLINE double to_arithmetic(double x) { return x; }

template <typename S>
SASA_INLINE S to_storage(Arithmetic<S> x) {
  if constexpr (std::is_same_v<S, BFloat16>) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if (x != x) return {uint16_t((bits >> 16) | 0x40)};
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};  // to nearest, ties to even
  } else {
    return x;
  }
}

// Calls use(S()) with the type S of the storage.
template <typename Use>
auto with_storage(Storage storage, Use use) {
  switch (storage) {
    case Storage::kFloat32: return use(float());
    case Storage::kBFloat16: return use(BFloat16());
    default: return use(double());
  }
}

template <typename S>
SASA_INLINE S* at(const Map& m, int64_t b, int64_t c, int64_t y, int64_t x) {
  return static_cast<S*>(m.data) + b * m.batch + c * m.channel + y * m.row + x * m.column;
}

// N neighboring elements.
template <typename S, int N>
SASA_INLINE Vec<Arithmetic<S>, N> load_as(const S* p) {
  if constexpr (std::is_same_v<S, BFloat16>) {
    Vec<uint16_t, N> bits;
    std::memcpy(&bits, p, sizeof bits);
    return (Vec<float, N>)(__builtin_convertvector(bits, Vec<uint32_t, N>) << 16);
  } else {
    return load<S, N>(p);
  }
}

template <typename S, int N>
SASA_INLINE void store_as(S* p, Vec<Arithmetic<S>, N> x) {
  if constexpr (std::is_same_v<S, BFloat16>) {
    const auto bits = (Vec<uint32_t, N>)x;
    const Vec<uint32_t, N> nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // ties to even
    const Vec<uint32_t, N> rounded = x == x ? nearest : (bits >> 16) | 0x40;      // NaN stays NaN
    const Vec<uint16_t, N> narrow = __builtin_convertvector(rounded, Vec<uint16_t, N>);
    std::memcpy(p, &narrow, sizeof narrow);
  } else {
    store<S, N>(p, x);
  }
}

// A vector of N elements: PIECE neighboring channels of each of N / PIECE pixels.
template <typename S, int N, int PIECE>
SASA_INLINE Vec<Arithmetic<S>, N> gather(const S* const* pixels, int64_t channel) {
  if constexpr (N == PIECE) {
    return load_as<S, N>(*pixels + channel);
  } else {
    constexpr int H = N / 2;
    return concatenate<Arithmetic<S>, H>(gather<S, H, PIECE>(pixels, channel),
                                         gather<S, H, PIECE>(pixels + H / PIECE, channel),
                                         std::make_index_sequence<N>());
  }
}

// Integers stand for bits that are not changed.
template <typename T>
SASA_INLINE Vec<T> times(Vec<T> x, T factor) {
  if constexpr (std::is_integral_v<T>)
    return x;
  else
    return x * factor;
}

// CHANNELS channels, neighbors in memory, of a vector's worth of pixels to planes[c · pitch].
// Interleaving the first half of the registers with the second rotates the bits of an element's index
// (register, lane) by one, so log2(lanes) of that turn (pixel, channel) into (channel, pixel).
template <typename S, int CHANNELS>
SASA_INLINE void transpose(const S* const* pixels, int64_t channel, int64_t count, Arithmetic<S>* planes,
                           int64_t pitch, Arithmetic<S> factor) {
  using T = Arithmetic<S>;
  constexpr int N = kLanes<T>;
  constexpr auto lanes = std::make_index_sequence<N>();
  Vec<T> x[CHANNELS], y[CHANNELS];
#pragma GCC unroll 16
  for (int i = 0; i < CHANNELS; ++i) x[i] = gather<S, N, CHANNELS>(pixels + i * (N / CHANNELS), channel);
#pragma GCC unroll 4
  for (int stage = 1; stage < N; stage *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < CHANNELS / 2; ++i) {
      y[2 * i] = interleave<T, N, false>(x[i], x[i + CHANNELS / 2], lanes);
      y[2 * i + 1] = interleave<T, N, true>(x[i], x[i + CHANNELS / 2], lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < CHANNELS; ++i) x[i] = y[i];
  }
  if (count < N) {
    const auto valid = lane_numbers<T>() < broadcast<IntOf<T>>(IntOf<T>(count));
#pragma GCC unroll 16
    for (int i = 0; i < CHANNELS; ++i) x[i] = valid ? x[i] : Vec<T>{};
  }
#pragma GCC unroll 16
  for (int i = 0; i < CHANNELS; ++i) store<T>(planes + i * pitch, times<T>(x[i], factor));
}

// A vector's worth of pixels of eight planes to [pixel][channel]: log2(8) interleavings turn the bits of the
// index (channel, pixel) into (pixel, channel).
template <typename T>
SASA_INLINE void transpose_planes(const T* const* planes, T* pixels) {
  constexpr int N = kLanes<T>;
  constexpr auto lanes = std::make_index_sequence<N>();
  Vec<T> x[8], y[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) x[i] = load<T>(planes[i]);
#pragma GCC unroll 3
  for (int stage = 0; stage < 3; ++stage) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      y[2 * i] = interleave<T, N, false>(x[i], x[i + 4], lanes);
      y[2 * i + 1] = interleave<T, N, true>(x[i], x[i + 4], lanes);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) x[i] = y[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) store<T>(pixels + i * N, x[i]);
}

// factor · src to planes[channel · pitch + column], a vector of columns at a time: zero in the lanes beyond
// the map. Vector number i of a plane begins at i · vector_step.
template <typename S>
void pack_planar(const S* src, int64_t channel_stride, int64_t pixel_stride, int64_t channels,
                 int64_t columns, Arithmetic<S>* planes, int64_t pitch, int64_t vector_step,
                 Arithmetic<S> factor) {
  using T = Arithmetic<S>;
  constexpr int N = kLanes<T>;
  for (int64_t x = 0; x < columns; x += N) {
    const int64_t count = columns - x < N ? columns - x : N;
    const S* s = src + x * pixel_stride;
    T* out = planes + x / N * vector_step;
    int64_t c = 0;
    if (channel_stride == 1) {
      const S* pixels[N];
      for (int i = 0; i < N; ++i) pixels[i] = s + (i < count ? i : count - 1) * pixel_stride;
      for (; c + N <= channels; c += N)
        transpose<S, N>(pixels, c, count, out + c * pitch, pitch, factor);
      if constexpr (N > 8)
        for (; c + 8 <= channels; c += 8) transpose<S, 8>(pixels, c, count, out + c * pitch, pitch, factor);
      if constexpr (N > 4)
        for (; c + 4 <= channels; c += 4) transpose<S, 4>(pixels, c, count, out + c * pitch, pitch, factor);
    }
    for (; c < channels; ++c) {
      const S* from = s + c * channel_stride;
      T* to = out + c * pitch;
      if (pixel_stride == 1 && count == N) {
        store<T>(to, times<T>(load_as<S, N>(from), factor));
      } else {
        for (int64_t i = 0; i < count; ++i) to[i] = to_arithmetic(from[i * pixel_stride]) * factor;
        for (int64_t i = count; i < N; ++i) to[i] = T(0);
      }
    }
  }
}

// Pairs of neighboring channels of src, the first in the lower half, to pairs[pair · pitch + column], zero beyond
// the last channel. Up to a vector's worth of columns.
inline void pack_pairs(const BFloat16* src, int64_t channel_stride, int64_t pixel_stride, int64_t channels,
                       int64_t columns, uint32_t* pairs, int64_t pitch) {
  if (channel_stride == 1 && channels % 2 == 0 && pixel_stride % 2 == 0)
    return pack_planar<uint32_t>(reinterpret_cast<const uint32_t*>(src), 1, pixel_stride / 2, channels / 2,
                                 columns, pairs, pitch, 0, 1);
  for (int64_t c = 0; c < channels; c += 2)
    for (int64_t i = 0; i < columns; ++i) {
      const BFloat16* pixel = src + i * pixel_stride + c * channel_stride;
      const uint32_t second = c + 1 < channels ? pixel[channel_stride].bits : 0;
      pairs[c / 2 * pitch + i] = second << 16 | pixel->bits;
    }
}

// src to pixels[head · head_step + column · pitch + channel]; padding channels are left unchanged.
template <typename S>
void pack_pixels(const S* src, int64_t channel_stride, int64_t pixel_stride, int64_t heads, int64_t channels,
                 int64_t columns, Arithmetic<S>* pixels, int64_t head_step, int64_t pitch) {
  constexpr int N = 8;
  for (int64_t x = 0; x < columns; ++x)
    for (int64_t head = 0; head < heads; ++head) {
      const S* s = src + x * pixel_stride + head * channels * channel_stride;
      Arithmetic<S>* pixel = pixels + head * head_step + x * pitch;
      int64_t c = 0;
      if (channel_stride == 1)
        for (; c + N <= channels; c += N) store<Arithmetic<S>, N>(pixel + c, load_as<S, N>(s + c));
      for (; c < channels; ++c) pixel[c] = to_arithmetic(s[c * channel_stride]);
    }
}

// pixels[column · pitch + channel] to a map; with relu their maximum with 0.
template <typename S>
void write_pixels(const Arithmetic<S>* pixels, int64_t pitch, int64_t channels, int64_t columns, S* dst,
                  int64_t channel_stride, int64_t pixel_stride, bool relu) {
  using T = Arithmetic<S>;
  constexpr int N = 8;
  for (int64_t x = 0; x < columns; ++x) {
    const T* pixel = pixels + x * pitch;
    S* d = dst + x * pixel_stride;
    int64_t c = 0;
    if (channel_stride == 1)
      for (; c + N <= channels; c += N) {
        Vec<T, N> y = load<T, N>(pixel + c);
        if (relu) y = y < 0 ? Vec<T, N>{} : y;  // NaN passes
        store_as<S, N>(d + c, y);
      }
    for (; c < channels; ++c) {
      const T y = relu && pixel[c] < 0 ? T(0) : pixel[c];
      d[c * channel_stride] = to_storage<S>(y);
    }
  }
}

// The same for planes[channel · pitch + column] of up to a vector's worth of pixels.
template <typename S>
void write_planes(const Arithmetic<S>* planes, int64_t pitch, int64_t channels, int64_t columns, S* dst,
                  int64_t channel_stride, int64_t pixel_stride, bool relu) {
  using T = Arithmetic<S>;
  constexpr int N = kLanes<T>;
  if (channel_stride == 1 && channels == 8 && N >= 8) {
    // The planes are the pixels of a transposed map.
    T pixels[N * 8];
    const T* rows[8];
    for (int c = 0; c < 8; ++c) rows[c] = planes + c * pitch;
    transpose_planes<T>(rows, pixels);
    return write_pixels<S>(pixels, 8, 8, columns, dst, 1, pixel_stride, relu);
  }
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t x = 0; x < columns; ++x) {
      const T y = planes[c * pitch + x];
      dst[c * channel_stride + x * pixel_stride] = to_storage<S>(relu && y < 0 ? T(0) : y);
    }
}

}  // namespace SASA_CAPABILITY
}  // namespace sasa
