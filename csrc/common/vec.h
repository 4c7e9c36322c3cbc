// Vectors of the capability that this file is compiled for, in the compilers' vector extension.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX2__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in GCC 12's own header: GCC bug 105593
#endif
#include <immintrin.h>
#endif

#if !defined(SASA_CAPABILITY)
#error "SASA_CAPABILITY must name the namespace of the capability that this is compiled for"
#endif

#define SASA_INLINE inline __attribute__((always_inline))

namespace sasa {
namespace SASA_CAPABILITY {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

constexpr double kLog2E = 1.4426950408889634;

constexpr int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

// The number of elements in a vector.
template <typename T>
constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <typename T, int N>
struct VecType {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
  typedef T unaligned __attribute__((vector_size(N * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <typename T, int N = kLanes<T>>
using Vec = typename VecType<T, N>::type;

template <typename T>
using IntOf = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;

template <typename T, int N = kLanes<T>>
SASA_INLINE Vec<T, N> load(const T* p) {
  return *reinterpret_cast<const typename VecType<T, N>::unaligned*>(p);
}

template <typename T, int N = kLanes<T>>
SASA_INLINE void store(T* p, Vec<T, N> x) {
  *reinterpret_cast<typename VecType<T, N>::unaligned*>(p) = x;
}

template <typename T, int N = kLanes<T>>
SASA_INLINE Vec<T, N> broadcast(T x) {
  return x - Vec<T, N>{};  // the compilers' broadcast; x − 0 keeps every bit of x
}

// Keeps a value that is used several times in a register; otherwise compilers load it each time.
template <typename V>
SASA_INLINE void keep(V& x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#elif defined(__x86_64__)
  if constexpr (sizeof(V) <= std::size_t(kVectorBytes)) asm("" : "+x"(x));
#else
  (void)x;
#endif
}

// The same for a pointer that runs through memory; otherwise compilers keep many pointers.
template <typename T>
SASA_INLINE void keep_address(const T*& p) {
  asm("" : "+r"(p));
}

// 0, 1, 2, …
template <typename T, int N = kLanes<T>>
SASA_INLINE Vec<IntOf<T>, N> lane_numbers() {
  Vec<IntOf<T>, N> lanes;
  for (int i = 0; i < N; ++i) lanes[i] = i;
  return lanes;
}

// b if a is smaller or not a number, else a; NaN in b passes.
template <typename T, int N>
SASA_INLINE Vec<T, N> maximum_of(Vec<T, N> a, Vec<T, N> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float> && N == 16) return (Vec<T, N>)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float> && N == 8) return (Vec<T, N>)_mm256_max_ps((__m256)a, (__m256)b);
#endif
  return a > b ? a : b;
}

template <typename T>
SASA_INLINE Vec<T> maximum(Vec<T> a, Vec<T> b) {
  return maximum_of<T, kLanes<T>>(a, b);
}

// 2^x on [0, 1) with a relative error of 8.3e-8 and exact at 0 (a minimax fit).
template <typename V>
SASA_INLINE V exp2_fraction(V f) {
  V p = f * 0.0018671300495043397f + 0.009017030708491802f;
  p = p * f + 0.05579991266131401f;
  p = p * f + 0.24016444385051727f;
  p = p * f + 0.6931512951850891f;
  return p * f + 1.0f;
}

// 2^x for x up to about 100: 0 for −inf, NaN for NaN; below 2^-126 the result may be 0.
template <typename T>
SASA_INLINE Vec<T> exp2(Vec<T> x) {
  constexpr int N = kLanes<T>;
  if constexpr (std::is_same_v<T, double>) {
    for (int i = 0; i < N; ++i) x[i] = std::exp2(x[i]);
    return x;
  } else {
#if defined(__AVX512DQ__)
    const __m512 f = _mm512_reduce_ps((__m512)x, 0x09);  // x − floor(x), 0 for −inf
    return (Vec<T>)_mm512_scalef_ps((__m512)exp2_fraction((Vec<T>)f), (__m512)x);
#else
    x = x < -127.0f ? Vec<T>{} - 127.0f : x;
    Vec<int32_t, N> n = __builtin_convertvector(x, Vec<int32_t, N>);
    n += __builtin_convertvector(n, Vec<T>) > x;  // a true comparison is −1
    const Vec<T> f = x - __builtin_convertvector(n, Vec<T>);
    return exp2_fraction(f) * (Vec<T>)((n + 127) << 23);
#endif
  }
}

template <typename T, int N>
SASA_INLINE T sum_of_lanes(Vec<T, N> x) {
  T sum = 0;
  for (int i = 0; i < N; ++i) sum += x[i];
  return sum;
}

// The elements of the first halves of a and b alternately, or (HIGH) those of the second halves.
template <typename T, int N, bool HIGH, std::size_t... I>
SASA_INLINE Vec<T, N> interleave(Vec<T, N> a, Vec<T, N> b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, int(HIGH * N / 2 + I / 2 + (I % 2) * N)...);
}

template <typename T, int N, std::size_t... I>
SASA_INLINE Vec<T, 2 * N> concatenate(Vec<T, N> a, Vec<T, N> b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, int(I)...);
}

}  // namespace SASA_CAPABILITY
}  // namespace sasa
