// The forward pass. A task is a strip of query rows of one image for a group of heads. Keys and values of the
// rows that a strip's windows reach are kept packed in a ring of rows; the next strip of the same image
// packs only the rows that are new to it.
#pragma once

#include <algorithm>
#include <limits>

#include "common/pack.h"
#include "common/scratch.h"
#include "local_attention/attend.h"
#include "local_attention/local_attention.h"
#include "local_attention/project.h"
#include "local_attention/window.h"

namespace sasa {
namespace SASA_CAPABILITY {

template <typename S>
class ForwardPass {
  using T = Arithmetic<S>;
  static constexpr int N = kLanes<T>;
  // The most that the packed rows of a group of heads may take to stay in the second-level cache.
  static constexpr int64_t kRingBytes = 800 * 1024;

 public:
  explicit ForwardPass(const LocalForward& f)
      : f_(f),
        p_(f.problem),
        window_(p_),
        query_rows_(p_.pool == 2 ? 2 : (p_.dilation_rows == 1 ? kRows : 1)),
        merged_(p_.pool == 2 && p_.dilation_rows == 1 && p_.dilation_cols == 1),
        strips_((p_.height + query_rows_ - 1) / query_rows_),
        ring_(std::min(p_.height, query_rows_ + 2 * window_.reach_rows)),
        pitch_(round_up(window_.columns, N)),
        narrow_(p_.pool == 1 && p_.dilation_rows == 1 && N > kNarrow && p_.value_head_dim <= kNarrow),
        value_pitch_(round_up(p_.value_head_dim, kChannelUnit<T>)),
        key_size_(p_.content ? p_.head_dim * pitch_ : 0),
        value_size_((narrow_ ? pitch_ : window_.columns) * value_pitch_),
        vectors_((p_.width + N - 1) / N),
        query_ring_(f_.projection ? round_up(query_rows_ + window_.reach_rows, query_rows_) : query_rows_) {
    const int64_t bytes = ring_ * (key_size_ + value_size_) * int64_t(sizeof(T));
    group_ = std::clamp<int64_t>(kRingBytes / bytes, 1, p_.heads);
    // Threads that share an image share its heads, not its rows, since neighboring strips need the same keys.
    // A projection computes whole panels.
    const int64_t fewest = f_.projection ? (kPanel + p_.head_dim - 1) / p_.head_dim : 1;
    const int64_t wanted = (f_.threads + p_.batch - 1) / p_.batch;
    groups_ = std::max((p_.heads + group_ - 1) / group_, std::min(wanted, p_.heads / fewest));
    group_ = (p_.heads + groups_ - 1) / groups_;
    query_size_ = vectors_ * group_ * p_.head_dim * N;
    key_step_ = spread(group_ * key_size_, key_size_);
    value_step_ = spread(group_ * value_size_, value_size_);
  }

  int64_t tasks() const { return groups_ * p_.batch * strips_; }

  void run(int64_t begin, int64_t end) {
    allocate();
    int64_t previous = -1;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t strip = task % strips_, image = task / strips_ % p_.batch;
      const int64_t first_head = task / strips_ / p_.batch * group_;
      const int64_t last_head = std::min(first_head + group_, p_.heads);
      const int64_t y = strip * query_rows_;
      const int64_t rows = std::min(query_rows_, p_.height - y);
      const int64_t reach_end = std::min(p_.height, y + rows + window_.reach_rows);
      int64_t packed = std::max<int64_t>(0, y - window_.reach_rows);
      if (task == previous + 1 && strip > 0)
        packed = std::min(p_.height, y + window_.reach_rows);  // by the strip above
      previous = task;
      const int64_t heads = last_head - first_head;
      strip_queries_ = queries_ + y % query_ring_ * query_size_;
      if (f_.projection) {
        project_rows(image, first_head, heads, packed, reach_end, y);
      } else {
        for (int64_t row = packed; row < reach_end; ++row) pack_row(image, first_head, heads, row);
        for (int64_t r = 0; r < rows; ++r)
          pack_queries(at<S>(p_.q, image, first_head * p_.head_dim, y + r, 0), p_.q.channel, p_.q.column, heads,
                       queries(0, r, 0));
      }
      for (int64_t head = first_head; head < last_head; ++head)
        for (int64_t column = 0; column < p_.width; column += N)
          attend(image, head, head - first_head, y, rows, column);
    }
  }

 private:
  void allocate() {
    scratch_.reset();
    keys_ = scratch_.zeros<T>(ring_ * key_step_);
    values_ = scratch_.zeros<T>(ring_ * value_step_);
    queries_ = scratch_.zeros<T>(query_ring_ * query_size_);
    logits_ = scratch_.zeros<T>(query_rows_ * window_.positions * N);
    row_terms_ = scratch_.zeros<T>(query_rows_ * p_.kernel_rows * N);
    column_terms_ = scratch_.zeros<T>(query_rows_ * p_.kernel_cols * N);
    masks_ = scratch_.zeros<T>(vectors_ * p_.kernel_cols * N);
    for (int64_t i = 0; i < vectors_; ++i) window_.mask_columns(i * N, masks_ + i * p_.kernel_cols * N);
    peak_ = scratch_.zeros<T>(query_rows_ * N);
    out_ = scratch_.zeros<T>(query_rows_ * N * value_pitch_);
    planes_ = scratch_.zeros<T>(narrow_ ? query_rows_ * kNarrow * N : 0);
    merged_row_ = scratch_.zeros<T>((p_.kernel_cols + 1) * N);
    merged_weights_ = scratch_.zeros<T>(merged_ ? (p_.kernel_rows + 1) * (p_.kernel_cols + 1) * N : 0);
    if (f_.projection) {
      const int64_t tiles = (p_.width + kTile<T> - 1) / kTile<T>;
      x_ = scratch_.any<T>(rows_together() * tiles * channels_of<S>(f_.projection->channels) * N);
      // A group of heads may begin and end inside a panel.
      const int64_t panels = group_ * std::max(p_.head_dim, p_.value_head_dim) / kPanel + 2;
      projected_ = scratch_.any<T>(rows_together() * p_.width * panels * kPanel);
    }
    weight_rows_ = scratch_.zeros<const T*>(p_.kernel_rows + 1);
    source_rows_ = scratch_.zeros<const T*>(p_.kernel_rows + 1);
  }

  // The distance of a ring's rows: at least `size`, and such that a head's part of all rows spreads over the
  // first-level cache as if the parts lay one behind the other.
  static int64_t spread(int64_t size, int64_t part) {
    constexpr int64_t kWay = 4096 / sizeof(T);
    return size == 0 ? 0 : round_up(size - part % kWay, kWay) + part % kWay;
  }

  // A packed row of keys holds the planes of all heads of the group; a packed row of values holds the pixels of each
  // head or, if the heads are narrow, their planes.
  T* key_row(int64_t slot_head, int64_t y) const {
    return keys_ + y % ring_ * key_step_ + slot_head * key_size_;
  }
  T* value_row(int64_t slot_head, int64_t y) const {
    return values_ + y % ring_ * value_step_ + slot_head * value_size_;
  }
  // Those of row number r of the strip.
  T* queries(int64_t slot_head, int64_t r, int64_t column) const {
    return strip_queries_ + r * query_size_ + (column / N * group_ + slot_head) * p_.head_dim * N;
  }

  static constexpr int64_t kTogether = 84;  // about as many pixels are projected at a time
  int64_t rows_together() const { return std::max<int64_t>(1, kTogether / p_.width); }

  // The rows y … y + rows − 1 of x to x_.
  void pack_x(int64_t image, int64_t y, int64_t rows) {
    const Projection& j = *f_.projection;
    const int64_t size = channels_of<S>(j.channels) * N;
    T* tile = x_;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t x = 0; x < p_.width; x += kTile<T>, tile += size)
        pack_operand<S>(at<S>(j.x, image, 0, y + r, x), j.x.channel, j.x.column, j.channels,
                        std::min<int64_t>(kTile<T>, p_.width - x), tile, N);
  }

  // The outputs of a group of heads for the `rows` rows in x_: calls use(first output, pixel pitch, row) for each.
  // Parts are numbered as in the weights, and have `head_dim` outputs a head.
  template <typename Use>
  void project_part(int64_t part, int64_t head_dim, int64_t head, int64_t heads, int64_t rows, Use use) {
    const int64_t channels = channels_of<S>(f_.projection->channels), size = channels * N;
    const int64_t first = head * head_dim / kPanel, last = ((head + heads) * head_dim + kPanel - 1) / kPanel;
    const int64_t in_part = (p_.heads * head_dim + kPanel - 1) / kPanel, pitch = (last - first) * kPanel;
    const int64_t panel_size = (channels + 1) * kPanel;
    const T* panel = static_cast<const T*>(f_.projection->panels) + (part * in_part + first) * panel_size;
    for (int64_t i = 0; i < last - first; ++i, panel += panel_size) {
      const T* tile = x_;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t x = 0; x < p_.width; x += kTile<T>, tile += size)
          project<T, std::is_same_v<S, BFloat16>>(
              tile, std::min<int64_t>(kTile<T>, p_.width - x), channels, panel,
              projected_ + (r * p_.width + x) * pitch + i * kPanel, pitch);
    }
    for (int64_t r = 0; r < rows; ++r)
      use(projected_ + r * p_.width * pitch + head * head_dim % kPanel, pitch, r);
  }

  // Keys and values of the rows begin … end − 1, and queries of the rows from first_query on. Later strips need some
  // of these queries, so that they are in a ring of rows as well.
  void project_rows(int64_t image, int64_t head, int64_t heads, int64_t begin, int64_t end,
                    int64_t first_query) {
    for (int64_t y = begin; y < end; y += rows_together()) {
      const int64_t rows = std::min(rows_together(), end - y);
      pack_x(image, y, rows);
      if (y + rows > first_query)
        project_part(0, p_.head_dim, head, heads, rows, [&](const T* q, int64_t pitch, int64_t r) {
          if (y + r >= first_query)
            pack_queries(q, 1, pitch, heads, queries_ + (y + r) % query_ring_ * query_size_);
        });
      if (p_.content)
        project_part(1, p_.head_dim, head, heads, rows, [&](const T* k, int64_t pitch, int64_t r) {
          pack_keys(k, 1, pitch, heads, y + r);
        });
      project_part(p_.content ? 2 : 1, p_.value_head_dim, head, heads, rows,
                   [&](const T* v, int64_t pitch, int64_t r) { pack_values(v, 1, pitch, heads, y + r); });
    }
  }

  void pack_row(int64_t image, int64_t head, int64_t heads, int64_t y) {
    if (p_.content)
      pack_keys(at<S>(p_.k, image, head * p_.head_dim, y, 0), p_.k.channel, p_.k.column, heads, y);
    pack_values(at<S>(p_.v, image, head * p_.value_head_dim, y, 0), p_.v.channel, p_.v.column, heads, y);
  }

  template <typename From>
  void pack_keys(const From* k, int64_t channel, int64_t column, int64_t heads, int64_t y) {
    pack_planar<From>(k, channel, column, heads * p_.head_dim, p_.width, key_row(0, y) + window_.reach_cols,
                      pitch_, N, T(1));
  }

  template <typename From>
  void pack_values(const From* v, int64_t channel, int64_t column, int64_t heads, int64_t y) {
    if (!narrow_)
      return pack_pixels<From>(v, channel, column, heads, p_.value_head_dim, p_.width,
                               value_row(0, y) + window_.reach_cols * value_pitch_, value_size_, value_pitch_);
    T* row = value_row(0, y) + window_.reach_cols;
    if (p_.value_head_dim == kNarrow)  // no plane pads a head
      return pack_planar<From>(v, channel, column, heads * kNarrow, p_.width, row, pitch_, N, T(1));
    for (int64_t i = 0; i < heads; ++i)
      pack_planar<From>(v + i * p_.value_head_dim * channel, channel, column, p_.value_head_dim, p_.width,
                        row + i * kNarrow * pitch_, pitch_, N, T(1));
  }

  // Queries times scale · log2 e, so that the softmax is one of powers of two.
  template <typename From>
  void pack_queries(const From* q, int64_t channel, int64_t column, int64_t heads, T* to) {
    pack_planar<From>(q, channel, column, heads * p_.head_dim, p_.width, to, N, group_ * p_.head_dim * N,
                      T(p_.scale * kLog2E));
  }

  // The queries (y …, column …): `rows` rows of up to one vector.
  void attend(int64_t image, int64_t head, int64_t slot_head, int64_t y, int64_t rows, int64_t column) {
    const int64_t lanes = std::min<int64_t>(N, p_.width - column);
    prepare_terms(head, slot_head, rows, column);
    find_logits(slot_head, y, rows, column);

    Vec<T> sums[kRows];
    for (int64_t r = 0; r < rows; ++r) {
      int64_t first, last;
      window_.rows_inside(y + r, &first, &last);
      const Vec<T> peak = load<T>(peak_ + r * N);
      sums[r] = exponentials<T>(logits_ + (r * window_.positions + first * p_.kernel_cols) * N,
                                (last - first) * p_.kernel_cols, peak, lanes);
      if (f_.lse) {
        T* lse = static_cast<T*>(f_.lse) +
                 ((image * p_.heads + head) * p_.height + y + r) * p_.width + column;
        for (int64_t i = 0; i < lanes; ++i) lse[i] = peak[i] + std::log2(sums[r][i]);
      }
    }
    if (merged_)
      write_merged(image, head, slot_head, y, rows, column, lanes, sums);
    else if (narrow_)
      write_narrow(image, head, slot_head, y, rows, column, lanes, sums);
    else
      write(image, head, slot_head, y, rows, column, lanes, sums);
  }

  // The queries' terms with the embeddings and the mask of the window's columns.
  void prepare_terms(int64_t head, int64_t slot_head, int64_t rows, int64_t column) {
    const int64_t half = p_.head_dim / 2;
    const T* masks = masks_ + column * p_.kernel_cols;
    const T* query = queries(slot_head, 0, column);
    if (p_.rel_row)
      embedding_terms<T>(query, query_size_, rows,
                         static_cast<const T*>(p_.rel_row) + head * p_.kernel_rows * half, half, p_.kernel_rows,
                         row_terms_, p_.kernel_rows * N);
    if (p_.rel_col)
      embedding_terms<T>(query + half * N, query_size_, rows,
                         static_cast<const T*>(p_.rel_col) + head * p_.kernel_cols * half, half, p_.kernel_cols,
                         column_terms_, p_.kernel_cols * N);
    for (int64_t r = 0; r < rows; ++r) {
      T* column_terms = column_terms_ + r * p_.kernel_cols * N;
      for (int64_t b = 0; b < p_.kernel_cols; ++b) {
        const Vec<T> mask = load<T>(masks + b * N);
        store<T>(column_terms + b * N, p_.rel_col ? (mask < T(0) ? mask : load<T>(column_terms + b * N)) : mask);
      }
      store<T>(peak_ + r * N, broadcast<T>(-std::numeric_limits<T>::infinity()));
    }
  }

  void find_logits(int64_t slot_head, int64_t y, int64_t rows, int64_t column) {
    const int64_t head_dim = p_.content ? p_.head_dim : 0;
    const int64_t window_row = p_.kernel_cols * N;
    for (int64_t r0 = 0; r0 < rows;) {
      // Rows that share keys: all of the strip if the window is not dilated, else each alone.
      const int64_t together = p_.dilation_rows == 1 ? rows : 1;
      const int64_t top = y + r0;
      for (int64_t a = 0; a < p_.kernel_rows + together - 1; ++a) {
        const int64_t key_y = window_.key_row(top, a);  // row `a` of the union of their windows
        if (key_y < 0 || key_y >= p_.height) continue;
        const int64_t first = std::max<int64_t>(0, a - p_.kernel_rows + 1);
        const int64_t count = std::min(a + 1, together) - first;
        const int64_t r = r0 + first;  // sees the key row at its window row a − first
        const int64_t step = window_.positions * N - window_row;
        const auto run = [&](auto number) __attribute__((always_inline)) {
          logits_of_row<T, decltype(number)::value>(
              queries(slot_head, r, column), query_size_,
              p_.content ? key_row(slot_head, key_y) + column : nullptr, pitch_, head_dim, p_.kernel_cols,
              p_.dilation_cols, row_terms_ + (r * p_.kernel_rows + a - first) * N, (p_.kernel_rows - 1) * N,
              column_terms_ + r * window_row, window_row,
              logits_ + (r * window_.positions + (a - first) * p_.kernel_cols) * N, step, peak_ + r * N);
        };
        with_rows(count, run);
      }
      r0 += together;
    }
  }

  // Each query's weighted values.
  void write(int64_t image, int64_t head, int64_t slot_head, int64_t y, int64_t rows, int64_t column,
             int64_t lanes, const Vec<T>* sums) {
    for (int64_t r = 0; r < rows; ++r) {
      int64_t first, last;
      window_.rows_inside(y + r, &first, &last);
      for (int64_t a = first; a < last; ++a) {
        weight_rows_[a - first] = logits_ + (r * window_.positions + a * p_.kernel_cols) * N;
        source_rows_[a - first] =
            value_row(slot_head, window_.key_row(y + r, a)) + column * value_pitch_;
      }
      const WeightedSum<T> sum{weight_rows_, source_rows_, last - first, p_.kernel_cols, N,
                               p_.dilation_cols, value_pitch_};
      T* out = out_ + r * N * value_pitch_;
      weighted_sum<T, 1>(sum, lanes, value_pitch_, out, value_pitch_);
      scale_pixels(out, T(1) / sums[r], lanes);
    }
    if (p_.pool == 2) {
      average_blocks(rows, lanes);
      write_pixels<S>(out_, value_pitch_, p_.value_head_dim, (lanes + 1) / 2,
                      at<S>(f_.out, image, head * p_.value_head_dim, y / 2, column / 2), f_.out.channel,
                      f_.out.column, f_.relu);
    } else {
      for (int64_t r = 0; r < rows; ++r)
        write_pixels<S>(out_ + r * N * value_pitch_, value_pitch_, p_.value_head_dim, lanes,
                        at<S>(f_.out, image, head * p_.value_head_dim, y + r, column), f_.out.channel,
                        f_.out.column, f_.relu);
    }
  }

  void write_narrow(int64_t image, int64_t head, int64_t slot_head, int64_t y, int64_t rows, int64_t column,
                    int64_t lanes, const Vec<T>* sums) {
    const int64_t kh = p_.kernel_rows, window_row = p_.kernel_cols * N;
    std::fill_n(planes_, rows * kNarrow * N, T(0));
    // Runs of key rows that the same queries see: [begin, end) of the union of the windows.
    for (int64_t begin = 0, end; begin < kh + rows - 1; begin = end) {
      const auto first_of = [&](int64_t a) { return std::max<int64_t>(0, a - kh + 1); };
      const auto count_of = [&](int64_t a) { return std::min(a + 1, rows) - first_of(a); };
      const int64_t first = first_of(begin), count = count_of(begin);
      for (end = begin + 1; end < kh + rows - 1 && first_of(end) == first && count_of(end) == count;) ++end;
      int64_t from = begin, used = 0;
      for (int64_t a = begin; a < end; ++a) {
        const int64_t key_y = window_.key_row(y, a);
        if (key_y < 0) from = a + 1;
        if (key_y >= 0 && key_y < p_.height) source_rows_[used++] = value_row(slot_head, key_y) + column;
      }
      if (used == 0) continue;
      narrow_sum<T>(logits_ + first * window_.positions * N + (from - first) * window_row,
                    window_.positions * N - window_row, count, source_rows_, used, p_.kernel_cols,
                    p_.dilation_cols, pitch_, planes_ + first * kNarrow * N);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const Vec<T> share = T(1) / sums[r];
      T* planes = planes_ + r * kNarrow * N;
      for (int c = 0; c < kNarrow; ++c) store<T>(planes + c * N, load<T>(planes + c * N) * share);
      write_planes<S>(planes, N, p_.value_head_dim, lanes,
                      at<S>(f_.out, image, head * p_.value_head_dim, y + r, column), f_.out.channel,
                      f_.out.column, f_.relu);
    }
  }

  void scale_pixels(T* pixels, Vec<T> factors, int64_t count) {
    constexpr int M = kChannelUnit<T>;
    for (int64_t t = 0; t < count; ++t)
      for (int64_t c = 0; c < value_pitch_; c += M) {
        T* p = pixels + t * value_pitch_ + c;
        store<T, M>(p, load<T, M>(p) * broadcast<T, M>(factors[t]));
      }
  }

  // The means of the 2 × 2 blocks of out_'s rows, over the pixels inside the map, to out_.
  void average_blocks(int64_t rows, int64_t lanes) {
    for (int64_t j = 0; j < lanes; j += 2) {
      const int64_t columns = std::min<int64_t>(2, lanes - j);
      for (int64_t c = 0; c < value_pitch_; ++c) {
        T sum = 0;
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t i = 0; i < columns; ++i) sum += out_[(r * N + j + i) * value_pitch_ + c];
        out_[j / 2 * value_pitch_ + c] = sum / T(rows * columns);
      }
    }
  }

  // The mean of 2 × 2 queries: their weights are added first, position by position of the union of their
  // windows, and each value is read once.
  void write_merged(int64_t image, int64_t head, int64_t slot_head, int64_t y, int64_t rows, int64_t column,
                    int64_t lanes, const Vec<T>* sums) {
    const int64_t kh = p_.kernel_rows, kw = p_.kernel_cols;
    Vec<T> share[2];  // of a query in the mean: 1 / (its sum · the number of pixels in the block)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < N; ++i) {
        const bool alone = column + (i | 1) >= p_.width;
        share[r][i] = i < lanes ? T(1) / (sums[r][i] * T(rows * (alone ? 1 : 2))) : T(0);
      }
    int64_t used = 0;
    for (int64_t a = 0; a < kh + rows - 1; ++a) {
      const int64_t key_y = window_.key_row(y, a);
      if (key_y < 0 || key_y >= p_.height) continue;
      T* merged = merged_weights_ + a * (kw + 1) * N;
      for (int64_t b = 0; b < kw; ++b) {
        Vec<T> sum = {};
        for (int64_t r = 0; r < rows; ++r)
          if (a - r >= 0 && a - r < kh)
            sum += share[r] * load<T>(logits_ + (r * window_.positions + (a - r) * kw + b) * N);
        store<T>(merged_row_ + b * N, sum);
      }
      // Column c of the union is column c of the even queries' windows and c − 1 of the odd ones'. Only the
      // even lanes are used.
      for (int64_t c = 0; c <= kw; ++c) {
        Vec<T> sum = {};
        if (c < kw) sum += load<T>(merged_row_ + c * N);
        if (c > 0) sum += load<T>(merged_row_ + (c - 1) * N + 1);
        store<T>(merged + c * N, sum);
      }
      weight_rows_[used] = merged;
      source_rows_[used++] = value_row(slot_head, key_y) + column * value_pitch_;
    }
    const WeightedSum<T> sum{weight_rows_, source_rows_, used, kw + 1, N, 1, value_pitch_};
    weighted_sum<T, 2>(sum, (lanes + 1) / 2, value_pitch_, out_, value_pitch_);
    write_pixels<S>(out_, value_pitch_, p_.value_head_dim, (lanes + 1) / 2,
                    at<S>(f_.out, image, head * p_.value_head_dim, y / 2, column / 2), f_.out.channel,
                    f_.out.column, f_.relu);
  }

  const LocalForward& f_;
  const LocalProblem& p_;
  const Window<T> window_;
  const int64_t query_rows_;
  const bool merged_;
  const int64_t strips_, ring_, pitch_;
  const bool narrow_;
  const int64_t value_pitch_, key_size_, value_size_, vectors_, query_ring_;
  int64_t group_, groups_, query_size_, key_step_, value_step_;

  Scratch& scratch_ = Scratch::of_this_thread();
  T *keys_, *values_, *queries_, *strip_queries_, *logits_, *row_terms_, *column_terms_, *masks_, *peak_, *out_, *planes_,
      *merged_row_,
      *merged_weights_, *x_, *projected_;
  const T **weight_rows_, **source_rows_;
};

}  // namespace SASA_CAPABILITY
}  // namespace sasa
