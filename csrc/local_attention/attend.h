// The three steps of local attention for one vector of neighboring queries of a row: logits, softmax,
// weighted sum. The forward and the backward pass are both built of them.
#pragma once

#include "common/vec.h"

namespace sasa {
namespace SASA_CAPABILITY {

// Query rows that share one pass over the keys, and logits that are summed at a time: as many as registers
// hold. (rows · shifts accumulators, a query vector each row, a key vector.)
constexpr int kRows = kVectorBytes == 64 ? 3 : 2;
constexpr int kShifts = kVectorBytes == 64 ? 7 : 4;

// Calls use(std::integral_constant<int, rows>()).
template <typename Use>
SASA_INLINE void with_rows(int64_t rows, Use use) {
  if (rows == 1)
    use(std::integral_constant<int, 1>());
  else if (rows == 2)
    use(std::integral_constant<int, 2>());
  else if constexpr (kRows >= 3)
    use(std::integral_constant<int, 3>());
}

// SHIFTS logits of ROWS queries with one key row:
//   logits[r][b] = row_term[r] + column_term[r][b] + Σ_d query[r][d] · key[d][· + b·dilation]
// The query rows see this key row at different window rows, so their logits are `step` elements apart.
// peak[r] becomes the largest logit so far.
template <typename T, int ROWS, int SHIFTS, bool DILATED>
SASA_INLINE void logits_of(const T* query, int64_t query_step, const T* key, int64_t pitch, int64_t head_dim,
                           int64_t dilation, const T* row_term, int64_t row_term_step,
                           const T* column_term, int64_t column_term_step, T* logits, int64_t step,
                           T* peak) {
  constexpr int N = kLanes<T>;
  const int64_t shift = DILATED ? dilation : 1;
  Vec<T> sum[ROWS][SHIFTS];
#pragma GCC unroll 4
  for (int r = 0; r < ROWS; ++r) {
    const Vec<T> row = load<T>(row_term + r * row_term_step);
#pragma GCC unroll 8
    for (int b = 0; b < SHIFTS; ++b) sum[r][b] = row + load<T>(column_term + r * column_term_step + b * N);
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    Vec<T> q[ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) q[r] = load<T>(query + r * query_step + d * N);
#pragma GCC unroll 8
    for (int b = 0; b < SHIFTS; ++b) {
      Vec<T> k = load<T>(key + d * pitch + b * shift);
      if (ROWS > 1) keep(k);
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; ++r) sum[r][b] += q[r] * k;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < ROWS; ++r) {
    Vec<T> top = load<T>(peak + r * N);
#pragma GCC unroll 8
    for (int b = 0; b < SHIFTS; ++b) {
      top = maximum<T>(top, sum[r][b]);
      store<T>(logits + r * step + b * N, sum[r][b]);
    }
    store<T>(peak + r * N, top);
  }
}

template <typename T, int ROWS, int SHIFTS>
SASA_INLINE void logits_of(bool dilated, const T* query, int64_t query_step, const T* key, int64_t pitch,
                           int64_t head_dim, int64_t dilation, const T* row_term, int64_t row_term_step,
                           const T* column_term, int64_t column_term_step, T* logits, int64_t step,
                           T* peak) {
  if (dilated)
    logits_of<T, ROWS, SHIFTS, true>(query, query_step, key, pitch, head_dim, dilation, row_term, row_term_step,
                                     column_term, column_term_step, logits, step, peak);
  else
    logits_of<T, ROWS, SHIFTS, false>(query, query_step, key, pitch, head_dim, 1, row_term, row_term_step,
                                      column_term, column_term_step, logits, step, peak);
}

// As above for a whole window row of `columns` shifts.
template <typename T, int ROWS>
void logits_of_row(const T* query, int64_t query_step, const T* key, int64_t pitch, int64_t head_dim,
                   int64_t columns, int64_t dilation, const T* row_term, int64_t row_term_step,
                   const T* column_term, int64_t column_term_step, T* logits, int64_t step, T* peak) {
  constexpr int N = kLanes<T>;
  for (int64_t b = 0; b < columns; b += kShifts) {
    const int64_t shifts = columns - b < kShifts ? columns - b : kShifts;
    const auto run = [&](auto count) __attribute__((always_inline)) {
      if constexpr (decltype(count)::value <= kShifts)
        logits_of<T, ROWS, decltype(count)::value>(
            dilation != 1, query, query_step, key + b * dilation, pitch, head_dim, dilation, row_term,
            row_term_step, column_term + b * N, column_term_step, logits + b * N, step, peak);
    };
    switch (shifts) {
      case 1: run(std::integral_constant<int, 1>()); break;
      case 2: run(std::integral_constant<int, 2>()); break;
      case 3: run(std::integral_constant<int, 3>()); break;
      case 4: run(std::integral_constant<int, 4>()); break;
      case 5: run(std::integral_constant<int, 5>()); break;
      case 6: run(std::integral_constant<int, 6>()); break;
      default: run(std::integral_constant<int, 7>());
    }
  }
}

// terms[r][t] = Σ_d query[r][d] · embedding[t][d] for ROWS vectors of queries, d over half of head_dim.
template <typename T, int ROWS, int TAPS>
SASA_INLINE void embedding_terms_of(const T* query, int64_t query_step, const T* embedding, int64_t half, T* terms,
                                    int64_t terms_step) {
  constexpr int N = kLanes<T>;
  Vec<T> sum[ROWS][TAPS] = {};
  for (int64_t d = 0; d < half; ++d) {
    Vec<T> q[ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) {
      q[r] = load<T>(query + r * query_step + d * N);
      keep(q[r]);
    }
#pragma GCC unroll 8
    for (int t = 0; t < TAPS; ++t) {
      Vec<T> e = broadcast<T>(embedding[t * half + d]);
      if (ROWS > 1) keep(e);
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; ++r) sum[r][t] += q[r] * e;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int t = 0; t < TAPS; ++t) store<T>(terms + r * terms_step + t * N, sum[r][t]);
}

template <typename T>
void embedding_terms(const T* query, int64_t query_step, int64_t rows, const T* embedding, int64_t half,
                     int64_t taps, T* terms, int64_t terms_step) {
  constexpr int N = kLanes<T>;
  with_rows(rows, [&](auto count) __attribute__((always_inline)) {
    constexpr int ROWS = decltype(count)::value;
    int64_t t = 0;
    for (; t + kShifts <= taps; t += kShifts)
      embedding_terms_of<T, ROWS, kShifts>(query, query_step, embedding + t * half, half, terms + t * N,
                                           terms_step);
    for (; t < taps; ++t)
      embedding_terms_of<T, ROWS, 1>(query, query_step, embedding + t * half, half, terms + t * N, terms_step);
  });
}

// logits become 2^(logit − peak), zero in the lanes from `lanes` on; returns their sum over the window.
template <typename T>
SASA_INLINE Vec<T> exponentials(T* logits, int64_t count, Vec<T> peak, int64_t lanes) {
  constexpr int N = kLanes<T>;
  Vec<T> sum[2] = {};
  if (lanes < N) {
    const auto valid = lane_numbers<T>() < broadcast<IntOf<T>>(IntOf<T>(lanes));
    for (int64_t t = 0; t < count; ++t) {
      const Vec<T> p = exp2<T>(load<T>(logits + t * N) - peak);
      const Vec<T> kept = valid ? p : Vec<T>{};
      store<T>(logits + t * N, kept);
      sum[0] += kept;
    }
    return sum[0];
  }
  int64_t t = 0;
  for (; t + 2 <= count; t += 2)
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const Vec<T> p = exp2<T>(load<T>(logits + (t + i) * N) - peak);
      store<T>(logits + (t + i) * N, p);
      sum[i] += p;
    }
  if (t < count) {
    const Vec<T> p = exp2<T>(load<T>(logits + t * N) - peak);
    store<T>(logits + t * N, p);
    sum[0] += p;
  }
  return sum[0] + sum[1];
}

// For heads of values so narrow that their channels do not fill a vector: lanes are queries here too.
constexpr int kNarrow = 8;

// sums[r][c] += Σ_a Σ_b weights[r][a][b] · value_rows[a][c][· + b·dilation] for ROWS vectors of queries and
// kNarrow planes of values. The weights of a query row are weights_step elements from those of the row above.
template <typename T, int ROWS>
SASA_INLINE void narrow_sum_of(const T* weights, int64_t weights_step, const T* const* value_rows,
                               int64_t key_rows, int64_t columns, int64_t dilation, int64_t pitch, T* sums) {
  constexpr int N = kLanes<T>;
  Vec<T> sum[ROWS][kNarrow];
#pragma GCC unroll 4
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < kNarrow; ++c) sum[r][c] = load<T>(sums + (r * kNarrow + c) * N);
  for (int64_t a = 0; a < key_rows; ++a) {
    const T* value = value_rows[a];
    for (int64_t b = 0; b < columns; ++b, weights += N, value += dilation) {
      Vec<T> p[ROWS];
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; ++r) {
        p[r] = load<T>(weights + r * weights_step);
        keep(p[r]);
      }
#pragma GCC unroll 8
      for (int c = 0; c < kNarrow; ++c) {
        Vec<T> v = load<T>(value + c * pitch);
        if (ROWS > 1) keep(v);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; ++r) sum[r][c] += p[r] * v;
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < kNarrow; ++c) store<T>(sums + (r * kNarrow + c) * N, sum[r][c]);
}

template <typename T>
void narrow_sum(const T* weights, int64_t weights_step, int64_t rows, const T* const* value_rows,
                int64_t key_rows, int64_t columns, int64_t dilation, int64_t pitch, T* sums) {
  with_rows(rows, [&](auto count) __attribute__((always_inline)) {
    narrow_sum_of<T, decltype(count)::value>(weights, weights_step, value_rows, key_rows, columns, dilation,
                                             pitch, sums);
  });
}

// What a weighted sum reads. The pixel t of the result is
//   Σ_rows Σ_b weight_rows[row][b·weight_step + t·stride] · source_rows[row][(t·stride + b·source_step)·pitch]
template <typename T>
struct WeightedSum {
  const T* const* weight_rows;
  const T* const* source_rows;
  int64_t rows, columns;
  int64_t weight_step, source_step;
  int64_t pitch;
};

// PIXELS pixels, VECTORS vectors of LANES channels each. COLUMNS > 0: neighboring pixels share sources, so
// each is loaded once; the window row has COLUMNS columns one pixel apart. COLUMNS = 0: any.
template <typename T, int LANES, int VECTORS, int PIXELS, int STRIDE, int COLUMNS, int WEIGHT_STEP>
SASA_INLINE void weighted_sum_of(const WeightedSum<T>& s, int64_t pixel, int64_t channel, T* out,
                                 int64_t out_pitch) {
  using V = Vec<T, LANES>;
  const int64_t weight_step = WEIGHT_STEP ? WEIGHT_STEP : s.weight_step;
  V sum[PIXELS][VECTORS] = {};
  for (int64_t row = 0; row < s.rows; ++row) {
    const T* w = s.weight_rows[row] + pixel * STRIDE;
    const T* z = s.source_rows[row] + pixel * STRIDE * s.pitch + channel;
    if constexpr (COLUMNS > 0) {
#pragma GCC unroll 64
      for (int x = 0; x < (PIXELS - 1) * STRIDE + COLUMNS; ++x) {
        V source[VECTORS];
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; ++i) {
          source[i] = load<T, LANES>(z + i * LANES);
          keep(source[i]);
        }
#pragma GCC unroll 16
        for (int t = 0; t < PIXELS; ++t) {
          const int b = x - t * STRIDE;
          if (b < 0 || b >= COLUMNS) continue;
          // w is at column x of the window of pixel 0, which is column b of that of pixel t.
          V weight = broadcast<T, LANES>(w[t * STRIDE * (1 - weight_step)]);
          if (VECTORS > 1) keep(weight);
#pragma GCC unroll 4
          for (int i = 0; i < VECTORS; ++i) sum[t][i] += weight * source[i];
        }
        z += s.pitch;
        w += weight_step;
        keep_address(z);
        keep_address(w);
      }
    } else {
      for (int64_t b = 0; b < s.columns; ++b)
#pragma GCC unroll 16
        for (int t = 0; t < PIXELS; ++t) {
          const V weight = broadcast<T, LANES>(w[b * weight_step + t * STRIDE]);
          const T* source = z + (t * STRIDE + b * s.source_step) * s.pitch;
#pragma GCC unroll 4
          for (int i = 0; i < VECTORS; ++i) sum[t][i] += weight * load<T, LANES>(source + i * LANES);
        }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < PIXELS; ++t)
#pragma GCC unroll 4
    for (int i = 0; i < VECTORS; ++i)
      store<T, LANES>(out + (pixel + t) * out_pitch + channel + i * LANES, sum[t][i]);
}

template <typename T, int LANES, int VECTORS, int STRIDE>
void weighted_sum_of_channels(const WeightedSum<T>& s, int64_t pixels, int64_t channel, T* out,
                              int64_t out_pitch) {
  // Enough sums in flight to hide the latency of an addition, few enough for the registers.
  constexpr int kWanted = kVectorBytes == 64 ? (VECTORS < 3 ? 8 : 4) : 8 / VECTORS;
  constexpr int kTile = kLanes<T> / STRIDE;
  constexpr int PIXELS = kWanted < kTile ? kWanted : kTile;
  const auto run = [&](auto columns, auto weight_step) __attribute__((always_inline)) {
    for (int64_t t = 0; t < pixels; t += PIXELS)
      weighted_sum_of<T, LANES, VECTORS, PIXELS, STRIDE, decltype(columns)::value, decltype(weight_step)::value>(
          s, t, channel, out, out_pitch);
  };
  const auto with_step = [&](auto columns) __attribute__((always_inline)) {
    if (s.weight_step == kLanes<T>)
      run(columns, std::integral_constant<int, kLanes<T>>());
    else
      run(columns, std::integral_constant<int, 0>());
  };
  switch (s.source_step == 1 ? s.columns : 0) {
    case 3 + STRIDE - 1: with_step(std::integral_constant<int, 3 + STRIDE - 1>()); break;
    case 5 + STRIDE - 1: with_step(std::integral_constant<int, 5 + STRIDE - 1>()); break;
    case 7 + STRIDE - 1: with_step(std::integral_constant<int, 7 + STRIDE - 1>()); break;
    default: run(std::integral_constant<int, 0>(), std::integral_constant<int, 0>());
  }
}

// Channels are padded to a multiple of this many.
template <typename T>
constexpr int kChannelUnit = kLanes<T> < 8 ? kLanes<T> : 8;

// out[pixel · out_pitch + channel] for `pixels` pixels (rounded up to what is summed at a time; at most one
// vector of them) and `channels` channels, a multiple of kChannelUnit.
template <typename T, int STRIDE>
void weighted_sum(const WeightedSum<T>& s, int64_t pixels, int64_t channels, T* out, int64_t out_pitch) {
  constexpr int N = kLanes<T>;
  int64_t c = 0;
  for (; c + 4 * N <= channels; c += 4 * N)
    weighted_sum_of_channels<T, N, 4, STRIDE>(s, pixels, c, out, out_pitch);
  for (; c + 2 * N <= channels; c += 2 * N)
    weighted_sum_of_channels<T, N, 2, STRIDE>(s, pixels, c, out, out_pitch);
  for (; c + N <= channels; c += N) weighted_sum_of_channels<T, N, 1, STRIDE>(s, pixels, c, out, out_pitch);
  if constexpr (kChannelUnit<T> < N)
    for (; c < channels; c += kChannelUnit<T>)
      weighted_sum_of_channels<T, kChannelUnit<T>, 1, STRIDE>(s, pixels, c, out, out_pitch);
}

}  // namespace SASA_CAPABILITY
}  // namespace sasa
