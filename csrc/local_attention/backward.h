// The backward pass. A task is one head of one image, so that no two tasks add to the same gradient. The weights
// are computed again from q, k and the log-sum-exp; with g the gradient of the output,
//   dp = g · v,  ds = p · (dp − Σ p · dp),  dq = Σ ds · (k + r),  dk = Σ ds · q,  dv = Σ p · g.
// p and ds are kept for the query rows whose windows reach the key row that is summed next, in a ring.
#pragma once

#include <algorithm>
#include <limits>

#include "common/pack.h"
#include "common/scratch.h"
#include "local_attention/attend.h"
#include "local_attention/local_attention.h"
#include "local_attention/window.h"

namespace sasa {
namespace SASA_CAPABILITY {

template <typename S>
class BackwardPass {
  using T = Arithmetic<S>;
  static constexpr int N = kLanes<T>;

 public:
  explicit BackwardPass(const LocalBackward& f)
      : f_(f),
        p_(f.problem),
        window_(p_),
        ring_(std::min(p_.height, 2 * window_.reach_rows + 1)),
        pitch_(round_up(window_.columns, N)),
        key_pitch_(round_up(p_.head_dim, kChannelUnit<T>)),
        value_pitch_(round_up(p_.value_head_dim, kChannelUnit<T>)),
        half_(p_.head_dim / 2) {}

  int64_t tasks() const { return p_.batch * p_.heads; }

  void run(int64_t begin, int64_t end) {
    allocate();
    for (int64_t task = begin; task < end; ++task) run_head(task / p_.heads, task % p_.heads);
  }

 private:
  void allocate() {
    scratch_.reset();
    const int64_t map = p_.height * window_.columns, plane_rows = p_.height * pitch_;
    key_planes_ = scratch_.zeros<T>(p_.content ? plane_rows * p_.head_dim : 0);
    value_planes_ = scratch_.zeros<T>(plane_rows * p_.value_head_dim);
    key_pixels_ = scratch_.zeros<T>(p_.content ? map * key_pitch_ : 0);
    query_pixels_ = scratch_.zeros<T>(p_.content ? map * key_pitch_ : 0);
    grad_pixels_ = scratch_.zeros<T>(map * value_pitch_);
    // Weights and their gradients: for a row of queries one padded row per window position.
    weights_ = scratch_.zeros<T>(ring_ * window_.positions * pitch_);
    slopes_ = scratch_.zeros<T>(ring_ * window_.positions * pitch_);
    query_ = scratch_.zeros<T>(p_.head_dim * N);
    grad_ = scratch_.zeros<T>(p_.value_head_dim * N);
    logits_ = scratch_.zeros<T>(window_.positions * N);
    products_ = scratch_.zeros<T>(window_.positions * N);
    row_terms_ = scratch_.zeros<T>(p_.kernel_rows * N);
    column_terms_ = scratch_.zeros<T>(p_.kernel_cols * N);
    peak_ = scratch_.zeros<T>(N);
    none_ = scratch_.zeros<T>(p_.kernel_cols * N);
    row_sums_ = scratch_.zeros<T>(p_.kernel_rows * N);
    column_sums_ = scratch_.zeros<T>(p_.kernel_cols * N);
    embedding_row_ = scratch_.zeros<T>(p_.kernel_rows * half_ * N);
    embedding_col_ = scratch_.zeros<T>(p_.kernel_cols * half_ * N);
    out_ = scratch_.zeros<T>(N * std::max(key_pitch_, value_pitch_));
    query_slopes_ = scratch_.zeros<T>(p_.head_dim * N);
    masks_ = scratch_.zeros<T>(round_up(p_.width, N) * p_.kernel_cols);
    for (int64_t column = 0; column < p_.width; column += N)
      window_.mask_columns(column, masks_ + column * p_.kernel_cols);
    weight_rows_ = scratch_.zeros<const T*>(p_.kernel_rows);
    source_rows_ = scratch_.zeros<const T*>(p_.kernel_rows);
  }

  void run_head(int64_t image, int64_t head) {
    pack(image, head);
    std::fill_n(embedding_row_, p_.kernel_rows * half_ * N, T(0));
    std::fill_n(embedding_col_, p_.kernel_cols * half_ * N, T(0));
    int64_t finished = 0;
    for (int64_t y = 0; y < p_.height; ++y) {
      for (int64_t column = 0; column < p_.width; column += N) queries(image, head, y, column);
      const int64_t complete = y == p_.height - 1 ? p_.height : y - window_.reach_rows + 1;
      for (; finished < complete; ++finished) keys(image, head, finished);
    }
    write_embedding(f_.grad_rel_row, image, head, p_.kernel_rows, embedding_row_);
    write_embedding(f_.grad_rel_col, image, head, p_.kernel_cols, embedding_col_);
  }

  T* plane(T* planes, int64_t channels, int64_t y) const { return planes + y * channels * pitch_; }
  T* pixels(T* map, int64_t channel_pitch, int64_t y) const { return map + y * window_.columns * channel_pitch; }

  void pack(int64_t image, int64_t head) {
    const int64_t reach = window_.reach_cols, columns = p_.width;
    for (int64_t y = 0; y < p_.height; ++y) {
      const S* v = at<S>(p_.v, image, head * p_.value_head_dim, y, 0);
      pack_planar<S>(v, p_.v.channel, p_.v.column, p_.value_head_dim, columns,
                     plane(value_planes_, p_.value_head_dim, y) + reach, pitch_, N, T(1));
      pack_grad(image, head, y);
      if (!p_.content) continue;
      const S* k = at<S>(p_.k, image, head * p_.head_dim, y, 0);
      const S* q = at<S>(p_.q, image, head * p_.head_dim, y, 0);
      pack_planar<S>(k, p_.k.channel, p_.k.column, p_.head_dim, columns,
                     plane(key_planes_, p_.head_dim, y) + reach, pitch_, N, T(1));
      pack_pixels<S>(k, p_.k.channel, p_.k.column, 1, p_.head_dim, columns,
                     pixels(key_pixels_, key_pitch_, y) + reach * key_pitch_, 0, key_pitch_);
      pack_pixels<S>(q, p_.q.channel, p_.q.column, 1, p_.head_dim, columns,
                     pixels(query_pixels_, key_pitch_, y) + reach * key_pitch_, 0, key_pitch_);
    }
  }

  // The gradient of the output at full resolution: each pixel of a pooled block has its share.
  void pack_grad(int64_t image, int64_t head, int64_t y) {
    T* row = pixels(grad_pixels_, value_pitch_, y) + window_.reach_cols * value_pitch_;
    const S* g = at<S>(f_.grad_out, image, head * p_.value_head_dim, y / p_.pool, 0);
    if (p_.pool == 1) {
      pack_pixels<S>(g, f_.grad_out.channel, f_.grad_out.column, 1, p_.value_head_dim, p_.width, row, 0,
                     value_pitch_);
      return;
    }
    const int64_t rows = (y | 1) < p_.height ? 2 : 1;
    for (int64_t x = 0; x < p_.width; ++x) {
      const T share = T(1) / T(rows * ((x | 1) < p_.width ? 2 : 1));
      for (int64_t c = 0; c < p_.value_head_dim; ++c)
        row[x * value_pitch_ + c] =
            to_arithmetic(g[c * f_.grad_out.channel + x / 2 * f_.grad_out.column]) * share;
    }
  }

  // Weights, slopes and the queries' own gradient for one vector of queries.
  void queries(int64_t image, int64_t head, int64_t y, int64_t column) {
    const int64_t lanes = std::min<int64_t>(N, p_.width - column);
    const int64_t kw = p_.kernel_cols;
    const auto valid = lane_numbers<T>() < broadcast<IntOf<T>>(IntOf<T>(lanes));
    int64_t first, last;
    window_.rows_inside(y, &first, &last);

    pack_planar<S>(at<S>(p_.q, image, head * p_.head_dim, y, column), p_.q.channel, p_.q.column, p_.head_dim, lanes,
                   query_, N, N, T(p_.scale * kLog2E));
    pack_planar<T>(pixels(grad_pixels_, value_pitch_, y) + (window_.reach_cols + column) * value_pitch_, 1,
                   value_pitch_, p_.value_head_dim, lanes, grad_, N, N, T(1));
    const T* rel_row = p_.rel_row ? static_cast<const T*>(p_.rel_row) + head * p_.kernel_rows * half_ : nullptr;
    const T* rel_col = p_.rel_col ? static_cast<const T*>(p_.rel_col) + head * kw * half_ : nullptr;
    if (p_.rel_row) embedding_terms<T>(query_, 0, 1, rel_row, half_, p_.kernel_rows, row_terms_, 0);
    if (p_.rel_col) embedding_terms<T>(query_ + half_ * N, 0, 1, rel_col, half_, kw, column_terms_, 0);
    for (int64_t b = 0; b < kw; ++b) {
      const Vec<T> mask = load<T>(masks_ + column * kw + b * N);
      store<T>(column_terms_ + b * N, p_.rel_col ? (mask < T(0) ? mask : load<T>(column_terms_ + b * N)) : mask);
    }

    const T* lse_row =
        static_cast<const T*>(f_.lse) + ((image * p_.heads + head) * p_.height + y) * p_.width + column;
    Vec<T> lse = broadcast<T>(std::numeric_limits<T>::infinity());
    for (int64_t i = 0; i < lanes; ++i) lse[i] = lse_row[i];

    Vec<T> mean = {};  // Σ p · dp
    for (int64_t a = first; a < last; ++a) {
      const int64_t key_y = window_.key_row(y, a);
      logits_of_row<T, 1>(query_, 0, p_.content ? plane(key_planes_, p_.head_dim, key_y) + column : nullptr, pitch_,
                          p_.content ? p_.head_dim : 0, kw, p_.dilation_cols, row_terms_ + a * N, 0, column_terms_,
                          0, logits_ + a * kw * N, 0, peak_);
      logits_of_row<T, 1>(grad_, 0, plane(value_planes_, p_.value_head_dim, key_y) + column, pitch_,
                          p_.value_head_dim, kw, p_.dilation_cols, none_, 0, none_, 0, products_ + a * kw * N, 0,
                          peak_);
      for (int64_t b = 0; b < kw; ++b) {
        const int64_t t = (a * kw + b) * N;
        const Vec<T> p = exp2<T>(load<T>(logits_ + t) - lse);
        const Vec<T> kept = valid ? p : Vec<T>{};
        store<T>(logits_ + t, kept);
        mean += kept * load<T>(products_ + t);
      }
    }

    for (int64_t b = 0; b < kw; ++b) store<T>(column_sums_ + b * N, Vec<T>{});
    T* weights = ring_row(weights_, y) + window_.reach_cols + column;
    T* slopes = ring_row(slopes_, y) + window_.reach_cols + column;
    for (int64_t a = first; a < last; ++a) {
      Vec<T> row_sum = {};
      for (int64_t b = 0; b < kw; ++b) {
        const int64_t t = a * kw + b;
        const Vec<T> p = load<T>(logits_ + t * N);
        const Vec<T> difference = p * (load<T>(products_ + t * N) - mean);
        const Vec<T> mask = load<T>(masks_ + column * kw + b * N);
        const Vec<T> slope = valid ? (mask < T(0) ? Vec<T>{} : difference) : Vec<T>{};
        store<T>(weights + t * pitch_, p);
        store<T>(slopes + t * pitch_, slope);
        row_sum += slope;
        store<T>(column_sums_ + b * N, load<T>(column_sums_ + b * N) + slope);
      }
      store<T>(row_sums_ + a * N, row_sum);
    }
    query_gradient(image, head, y, column, lanes, first, last, rel_row, rel_col);
  }

  T* ring_row(T* ring, int64_t y) const { return ring + y % ring_ * window_.positions * pitch_; }

  void query_gradient(int64_t image, int64_t head, int64_t y, int64_t column, int64_t lanes, int64_t first,
                      int64_t last, const T* rel_row, const T* rel_col) {
    const int64_t kw = p_.kernel_cols;
    if (p_.content) {
      for (int64_t a = first; a < last; ++a) {
        weight_rows_[a - first] = ring_row(slopes_, y) + a * kw * pitch_ + window_.reach_cols + column;
        source_rows_[a - first] =
            pixels(key_pixels_, key_pitch_, window_.key_row(y, a)) + column * key_pitch_;
      }
      const WeightedSum<T> sum{weight_rows_, source_rows_, last - first, kw, pitch_, p_.dilation_cols,
                               key_pitch_};
      weighted_sum<T, 1>(sum, lanes, key_pitch_, out_, key_pitch_);
    } else {
      std::fill_n(out_, N * key_pitch_, T(0));
    }
    // The embeddings' part of it, and the embeddings' own gradients. query_ has the factor scale · log2 e.
    for (int64_t d = 0; d < half_; ++d) {
      const Vec<T> row_query = load<T>(query_ + d * N), col_query = load<T>(query_ + (half_ + d) * N);
      Vec<T> by_row = {}, by_col = {};
      if (p_.rel_row)
        for (int64_t a = first; a < last; ++a) {
          const Vec<T> slope = load<T>(row_sums_ + a * N);
          T* embedding = embedding_row_ + (a * half_ + d) * N;
          by_row += slope * broadcast<T>(rel_row[a * half_ + d]);
          store<T>(embedding, load<T>(embedding) + slope * row_query);
        }
      if (p_.rel_col)
        for (int64_t b = 0; b < kw; ++b) {
          const Vec<T> slope = load<T>(column_sums_ + b * N);
          T* embedding = embedding_col_ + (b * half_ + d) * N;
          by_col += slope * broadcast<T>(rel_col[b * half_ + d]);
          store<T>(embedding, load<T>(embedding) + slope * col_query);
        }
      store<T>(query_slopes_ + d * N, by_row);
      store<T>(query_slopes_ + (half_ + d) * N, by_col);
    }
    for (int64_t t = 0; t < lanes; ++t)
      for (int64_t d = 0; d < p_.head_dim; ++d) {
        T& g = out_[t * key_pitch_ + d];
        g = (g + (d < 2 * half_ ? query_slopes_[d * N + t] : T(0))) * T(p_.scale);
      }
    write_pixels<S>(out_, key_pitch_, p_.head_dim, lanes, at<S>(f_.grad_q, image, head * p_.head_dim, y, column),
                    f_.grad_q.channel, f_.grad_q.column, false);
  }

  // The gradients of one row of keys and values, from the queries whose windows hold them.
  void keys(int64_t image, int64_t head, int64_t y) {
    const int64_t kw = p_.kernel_cols;
    for (int64_t column = 0; column < p_.width; column += N) {
      const int64_t lanes = std::min<int64_t>(N, p_.width - column);
      for (int which = p_.content ? 0 : 1; which < 2; ++which) {
        T* ring = which ? weights_ : slopes_;
        T* sources = which ? grad_pixels_ : query_pixels_;
        const int64_t pitch = which ? value_pitch_ : key_pitch_;
        int64_t used = 0;
        for (int64_t a = 0; a < p_.kernel_rows; ++a) {
          const int64_t query_y = y - a * p_.dilation_rows + window_.reach_rows;
          if (query_y < 0 || query_y >= p_.height) continue;
          // From the query furthest left, which sees the key in the last column of its window.
          weight_rows_[used] = ring_row(ring, query_y) + (a * kw + kw - 1) * pitch_ + column;
          source_rows_[used++] = pixels(sources, pitch, query_y) + column * pitch;
        }
        const WeightedSum<T> sum{weight_rows_, source_rows_, used, kw, p_.dilation_cols - pitch_,
                                 p_.dilation_cols, pitch};
        weighted_sum<T, 1>(sum, lanes, pitch, out_, pitch);
        if (which) {
          write_pixels<S>(out_, pitch, p_.value_head_dim, lanes,
                          at<S>(f_.grad_v, image, head * p_.value_head_dim, y, column), f_.grad_v.channel,
                          f_.grad_v.column, false);
        } else {
          for (int64_t i = 0; i < lanes * pitch; ++i) out_[i] *= T(p_.scale);
          write_pixels<S>(out_, pitch, p_.head_dim, lanes, at<S>(f_.grad_k, image, head * p_.head_dim, y, column),
                          f_.grad_k.channel, f_.grad_k.column, false);
        }
      }
    }
  }

  void write_embedding(void* gradient, int64_t image, int64_t head, int64_t taps, const T* sums) {
    if (!gradient) return;
    T* to = static_cast<T*>(gradient) + (image * p_.heads + head) * taps * half_;
    for (int64_t i = 0; i < taps * half_; ++i)
      to[i] = sum_of_lanes<T, N>(load<T>(sums + i * N)) * T(1 / kLog2E);
  }

  const LocalBackward& f_;
  const LocalProblem& p_;
  const Window<T> window_;
  const int64_t ring_, pitch_, key_pitch_, value_pitch_, half_;

  Scratch& scratch_ = Scratch::of_this_thread();
  T *key_planes_, *value_planes_, *key_pixels_, *query_pixels_, *grad_pixels_, *weights_, *slopes_, *query_,
      *grad_, *logits_, *products_, *row_terms_, *column_terms_, *peak_, *none_, *row_sums_, *column_sums_,
      *embedding_row_, *embedding_col_, *out_, *query_slopes_, *masks_;
  const T **weight_rows_, **source_rows_;
};

}  // namespace SASA_CAPABILITY
}  // namespace sasa
