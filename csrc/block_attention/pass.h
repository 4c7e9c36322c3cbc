// Attention inside the blocks of an image of few channels.
//
// Neighboring lanes of the logits, the weights and their gradients are queries of a block, [key][query]; those of
// values and outputs are channels of a head, [position][channel]. Both are padded to whole vectors.
#pragma once

#include <algorithm>
#include <limits>

#include "block_attention/block_attention.h"
#include "common/pack.h"
#include "common/scratch.h"

namespace sasa {
namespace SASA_CAPABILITY {

// A number known at compile time, or with FIXED = 0 only at run time.
template <int FIXED>
struct Extent {
  int64_t value;
  SASA_INLINE constexpr operator int64_t() const { return FIXED ? FIXED : value; }
};

// The rows of a product that are summed at a time.
constexpr int kManyRows = kVectorBytes == 64 ? 16 : 4;
constexpr int kFewRows = 4;

// out[r][c] = Σ_s a[r·row_step + s·sum_step] · b[s·pitch + c] for ROWS rows and VECTORS vectors of columns.
template <typename T, int ROWS, int VECTORS>
SASA_INLINE void multiply_tile(const T* a, int64_t row_step, int64_t sum_step, const T* b, int64_t pitch,
                               int64_t sums, T* out) {
  constexpr int N = kLanes<T>;
  Vec<T> sum[ROWS][VECTORS] = {};
  for (int64_t s = 0; s < sums; ++s) {
    Vec<T> y[VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < VECTORS; ++i) y[i] = load<T>(b + s * pitch + i * N);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const Vec<T> x = broadcast<T>(a[r * row_step + s * sum_step]);
#pragma GCC unroll 4
      for (int i = 0; i < VECTORS; ++i) sum[r][i] += x * y[i];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < VECTORS; ++i) store<T>(out + r * pitch + i * N, sum[r][i]);
}

template <typename T, int ROWS>
SASA_INLINE void multiply_rows(const T* a, int64_t row_step, int64_t sum_step, const T* b, int64_t pitch,
                               int64_t sums, T* out) {
  constexpr int N = kLanes<T>;
  int64_t c = 0;
  if constexpr (ROWS < 16)
    for (; c + 2 * N <= pitch; c += 2 * N)
      multiply_tile<T, ROWS, 2>(a, row_step, sum_step, b + c, pitch, sums, out + c);
  for (; c < pitch; c += N) multiply_tile<T, ROWS, 1>(a, row_step, sum_step, b + c, pitch, sums, out + c);
}

// The same for any number of rows of `pitch` columns; up to kManyRows − 1 more rows are read and written.
template <typename T>
SASA_INLINE void multiply(const T* a, int64_t row_step, int64_t sum_step, const T* b, int64_t pitch,
                          int64_t rows, int64_t sums, T* out) {
  int64_t r = 0;
  for (; r + kManyRows / 2 < rows; r += kManyRows)
    multiply_rows<T, kManyRows>(a + r * row_step, row_step, sum_step, b, pitch, sums, out + r * pitch);
  for (; r < rows; r += kFewRows)
    multiply_rows<T, kFewRows>(a + r * row_step, row_step, sum_step, b, pitch, sums, out + r * pitch);
}

// to[c][r] = from[r][c]; rows and columns are whole vectors.
template <typename T>
SASA_INLINE void transpose_tile(const T* from, int64_t rows, int64_t columns, T* to) {
  constexpr int N = kLanes<T>;
  for (int64_t r = 0; r < rows; r += N) {
    const T* pixels[N];
    for (int i = 0; i < N; ++i) pixels[i] = from + (r + i) * columns;
    for (int64_t c = 0; c < columns; c += N) transpose<T, N>(pixels, c, N, to + c * rows + r, rows, T(1));
  }
}

// The work of one thread for storage S, with C channels, P positions per block and D = head_dim; 0: known at run time.
template <typename S, int C, int P, int D>
class BlockPass {
  using T = Arithmetic<S>;
  static constexpr int N = kLanes<T>;
  static constexpr int kUnit = N < kFewRows ? kFewRows : N;
  static constexpr int kChannelStep = C ? C : 1;  // channels kept in registers

 public:
  explicit BlockPass(const BlockProblem& p)
      : p_(p), channels_{p.channels}, positions_{p.block_size * p.block_size}, head_dim_{p.head_dim},
        queries_{round_up(p.block_size * p.block_size, kUnit)}, lanes_{round_up(p.head_dim, kUnit)} {
    Scratch& scratch = Scratch::of_this_thread();
    scratch.reset();
    const int64_t rows = round_up(positions_, 16);
    pack_arguments(scratch);
    keys_ = scratch.zeros<int64_t>(positions_);
    last_keys_ = scratch.zeros<int64_t>(positions_);
    pixels_ = scratch.zeros<T>(p.columns() * channels_ * queries_);
    projected_ = scratch.zeros<T>(channels_ * queries_);
    weights_ = scratch.zeros<T>(rows * queries_);
    inverse_ = scratch.zeros<T>(queries_);
    inside_ = scratch.zeros<T>(queries_);
    peak_ = scratch.zeros<T>(lanes_);
    moments_ = scratch.zeros<T>(3 * lanes_);
    values_ = scratch.zeros<T>(rows * lanes_);
    tile_ = scratch.zeros<T>(std::max<int64_t>(rows, queries_) * lanes_);
    planes_ = scratch.zeros<T>(round_up(lanes_, 16) * queries_);
  }

  void forward(const BlockForward& f, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      each_block(row, [&](const auto& block, int64_t head) __attribute__((always_inline)) {
        weigh(block, head);
        make_values(block, head);
        // [query][channel]
        multiply<T>(weights_, 1, queries_, values_, lanes_, positions_, block.count(), tile_);
        if (f.statistics)
          write_maximum<true>(f, block, head, row);
        else if (f.max_pool)
          write_maximum<false>(f, block, head, row);
        else
          write_all(f.out, block, head);
      });
  }

  void backward(const BlockBackward& b, int64_t begin, int64_t end) {
    Scratch& scratch = Scratch::of_this_thread();
    const int64_t rows = round_up(positions_, 16);
    const int64_t qk_size = p_.heads * channels_ * channels_ * queries_;
    const int64_t rel_size = p_.heads * positions_ * channels_ * queries_;
    const int64_t v_size = p_.heads * positions_ * channels_ * lanes_;
    grad_qk_weight_ = scratch.zeros<T>(qk_size);
    grad_rel_weight_ = scratch.zeros<T>(rel_size);
    grad_v_weight_ = scratch.zeros<T>(v_size);
    grad_values_ = scratch.zeros<T>(rows * lanes_);
    grad_logits_ = scratch.zeros<T>(rows * queries_);
    grad_keys_ = scratch.zeros<T>(channels_ * queries_);
    const int64_t all_rows = p_.batch * p_.rows();
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      std::fill_n(grad_qk_weight_, qk_size, T(0));
      std::fill_n(grad_rel_weight_, rel_size, T(0));
      std::fill_n(grad_v_weight_, v_size, T(0));
      for (int64_t row = all_rows * chunk / b.chunks; row < all_rows * (chunk + 1) / b.chunks; ++row)
        each_block(row, [&](const auto& block, int64_t head) __attribute__((always_inline)) {
          weigh(block, head);
          make_values(block, head);
          if (b.max_pool) {
            multiply<T>(weights_, 1, queries_, values_, lanes_, positions_, block.count(), tile_);
            make_gradient(b, block, head);
          } else {
            read_gradient(b.grad_out, block, head);
          }
          normalize(block);
          // The gradients of the values [key][channel] and of the weights [key][query].
          multiply<T>(weights_, queries_, 1, tile_, lanes_, block.count(), positions_, grad_values_);
          multiply<T>(values_, lanes_, 1, planes_, queries_, block.count(), head_dim_, grad_logits_);
          add_to_v_weight(block, head);
          add_to_logits(block, head);
        });
      write_gradients(b, chunk);
    }
  }

 private:
  // A block and its keys: all positions (FULL), or those inside the image. Key number k is at position key(k).
  template <bool FULL>
  struct Block {
    const BlockPass& pass;
    int64_t image, top, left;  // in pixels
    int64_t height, width;
    const T* pixels;  // [channel][position]
    const int64_t* keys;

    SASA_INLINE int64_t count() const { return FULL ? int64_t(pass.positions_) : height * width; }
    SASA_INLINE int64_t rows() const { return FULL && P ? kBlock : height; }
    SASA_INLINE int64_t columns() const { return FULL && P ? kBlock : width; }
    SASA_INLINE int64_t key(int64_t k) const { return FULL ? k : keys[k]; }
    static constexpr bool kFull = FULL;
    static constexpr int kBlock = P == 16 ? 4 : 0;
  };

  void pack_arguments(Scratch& scratch) {
    const T* qk_weight = static_cast<const T*>(p_.qk_weight);
    const T* rel_weight = static_cast<const T*>(p_.rel_weight);
    const T* v_weight = static_cast<const T*>(p_.v_weight);
    qk_weight_ = scratch.zeros<T>(p_.heads * channels_ * channels_);
    rel_weight_ = scratch.zeros<T>(p_.heads * positions_ * channels_ * queries_);
    v_weight_ = scratch.zeros<T>(p_.heads * positions_ * channels_ * lanes_);
    for (int64_t i = 0; i < p_.heads * channels_ * channels_; ++i) qk_weight_[i] = qk_weight[i] * T(kLog2E);
    for (int64_t n = 0; n < p_.heads; ++n)
      for (int64_t c = 0; c < channels_; ++c) {
        const T* from = rel_weight + (n * channels_ + c) * positions_ * positions_;
        for (int64_t i = 0; i < positions_; ++i)
          for (int64_t j = 0; j < positions_; ++j)
            rel_weight_at(rel_weight_, n, j, c)[i] = from[i * positions_ + j] * T(kLog2E);
        for (int64_t j = 0; j < positions_; ++j)
          for (int64_t o = 0; o < head_dim_; ++o)
            v_weight_at(v_weight_, n, j, c)[o] =
                v_weight[((j * p_.heads + n) * head_dim_ + o) * channels_ + c];
      }
  }

  SASA_INLINE T* rel_weight_at(T* x, int64_t head, int64_t key, int64_t channel) const {
    return x + ((head * positions_ + key) * channels_ + channel) * queries_;
  }
  SASA_INLINE T* v_weight_at(T* x, int64_t head, int64_t key, int64_t channel) const {
    return x + ((head * positions_ + key) * channels_ + channel) * lanes_;
  }

  // Calls use(block, head) for a row of blocks, head by head, so that a head's arguments stay in the fastest cache.
  template <typename Use>
  SASA_INLINE void each_block(int64_t row, Use use) {
    const int64_t image = row / p_.rows(), top = row % p_.rows() * p_.block_size, columns = p_.columns();
    const int64_t height = std::min(p_.block_size, p_.height - top);
    const int64_t last_width = p_.width - (columns - 1) * p_.block_size;
    const int64_t step = channels_ * queries_;
    for (int64_t s = 0; s < columns; ++s) {
      const int64_t width = s + 1 < columns ? p_.block_size : last_width;
      const S* from = at<const S>(p_.x, image, 0, top, s * p_.block_size);
      for (int64_t c = 0; c < channels_; ++c)
        for (int64_t y = 0; y < p_.block_size; ++y)
          for (int64_t x = 0; x < p_.block_size; ++x)
            pixels_[s * step + c * queries_ + y * p_.block_size + x] =
                y < height && x < width
                    ? to_arithmetic(from[c * p_.x.channel + y * p_.x.row + x * p_.x.column])
                    : T(0);
    }
    const auto number_keys = [&](int64_t* keys, int64_t width) {
      for (int64_t y = 0, k = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) keys[k++] = y * p_.block_size + x;
    };
    number_keys(keys_, p_.block_size);
    number_keys(last_keys_, last_width);
    // Blocks of a size known at compile time, then others.
    const int64_t full = P == 0 || height < p_.block_size ? 0 : columns - (last_width < p_.block_size);
    for (int64_t head = 0; head < p_.heads; ++head) {
      if constexpr (P != 0)
        for (int64_t s = 0; s < full; ++s)
          use(Block<true>{*this, image, top, s * p_.block_size, height, p_.block_size, pixels_ + s * step, keys_},
              head);
      for (int64_t s = full; s < columns; ++s) {
        const bool last = s + 1 == columns;
        use(Block<false>{*this, image, top, s * p_.block_size, height, last ? last_width : p_.block_size,
                         pixels_ + s * step, last ? last_keys_ : keys_},
            head);
      }
    }
  }

  // weights = 2^(logit − peak) [key][query] and inverse = 1 / their sum.
  template <typename Block>
  SASA_INLINE void weigh(const Block& block, int64_t head) {
    const T* qk = qk_weight_ + head * channels_ * channels_;
    for (int64_t q = 0; q < queries_; q += N) {
      const T* queries = block.pixels + q;
      for (int64_t d = 0; d < channels_; ++d) {
        Vec<T> y = {};
        for (int64_t c = 0; c < channels_; ++c)
          y += load<T>(queries + c * queries_) * broadcast<T>(qk[c * channels_ + d]);
        store<T>(projected_ + d * queries_ + q, y);
      }
      Vec<T> peak = {};
      for (int64_t first = 0; first < channels_; first += kChannelStep) {
        Vec<T> x[kChannelStep], y[kChannelStep];
#pragma GCC unroll 4
        for (int c = 0; c < kChannelStep; ++c) {
          x[c] = load<T>(queries + (first + c) * queries_);
          y[c] = load<T>(projected_ + (first + c) * queries_ + q);
        }
        peak = broadcast<T>(-std::numeric_limits<T>::infinity());
        for (int64_t k = 0; k < block.count(); ++k) {
          const int64_t j = block.key(k);
          const T* rel_weight = rel_weight_at(rel_weight_, head, j, first) + q;
          T* weight = weights_ + k * queries_ + q;
          Vec<T> logit = {};
          if (first) logit = load<T>(weight);
#pragma GCC unroll 4
          for (int c = 0; c < kChannelStep; ++c) {
            logit += x[c] * load<T>(rel_weight + c * queries_);
            logit += y[c] * broadcast<T>(block.pixels[(first + c) * queries_ + j]);
          }
          peak = maximum<T>(peak, logit);
          store<T>(weight, logit);
        }
      }
      Vec<T> sum = {};
      for (int64_t k = 0; k < block.count(); ++k) {
        const Vec<T> weight = exp2<T>(load<T>(weights_ + k * queries_ + q) - peak);
        store<T>(weights_ + k * queries_ + q, weight);
        sum += weight;
      }
      store<T>(inverse_ + q, 1 / sum);
    }
  }

  // Weights that sum to one, and are zero for queries outside the image.
  template <typename Block>
  SASA_INLINE void normalize(const Block& block) {
    if constexpr (!Block::kFull) {
      std::fill_n(inside_, int64_t(queries_), T(0));
      for (int64_t k = 0; k < block.count(); ++k) inside_[block.key(k)] = T(1);
    }
    for (int64_t q = 0; q < queries_; q += N) {
      const Vec<T> inverse = load<T>(inverse_ + q);
      for (int64_t k = 0; k < block.count(); ++k) {
        Vec<T> weight = load<T>(weights_ + k * queries_ + q) * inverse;
        if constexpr (!Block::kFull) weight = load<T>(inside_ + q) > 0 ? weight : Vec<T>{};
        store<T>(weights_ + k * queries_ + q, weight);
      }
    }
  }

  // values [key][channel]
  template <typename Block>
  SASA_INLINE void make_values(const Block& block, int64_t head) {
    for (int64_t k = 0; k < block.count(); ++k) {
      const int64_t j = block.key(k);
      for (int64_t o = 0; o < lanes_; o += N) {
        Vec<T> value = {};
        for (int64_t c = 0; c < channels_; ++c)
          value += load<T>(v_weight_at(v_weight_, head, j, c) + o) *
                   broadcast<T>(block.pixels[c * queries_ + j]);
        store<T>(values_ + k * lanes_ + o, value);
      }
    }
  }

  // Divides the tile by the sums of the weights; peak becomes the maximum over the block's queries.
  template <typename Block>
  SASA_INLINE void find_peak(const Block& block) {
    for (int64_t o = 0; o < lanes_; o += N) {
      Vec<T> peak = {};
      Vec<IntOf<T>> not_a_number = {};
      for (int64_t k = 0; k < block.count(); ++k) {
        const int64_t i = block.key(k);
        const Vec<T> y = load<T>(tile_ + i * lanes_ + o) * broadcast<T>(inverse_[i]);
        store<T>(tile_ + i * lanes_ + o, y);
        peak = k ? maximum<T>(peak, y) : y;
        not_a_number |= y != y;
      }
      peak = not_a_number ? broadcast<T>(std::numeric_limits<T>::quiet_NaN()) : peak;
      store<T>(peak_ + o, peak);
    }
  }

  template <bool STATISTICS, typename Block>
  SASA_INLINE void write_maximum(const BlockForward& f, const Block& block, int64_t head, int64_t row) {
    find_peak(block);
    S* to = at<S>(f.out, block.image, head * head_dim_, block.top / p_.block_size, block.left / p_.block_size);
    for (int64_t o = 0; o < head_dim_; ++o) to[o * f.out.channel] = to_storage<S>(peak_[o]);
    if constexpr (!STATISTICS) return;
    for (int64_t o = 0; o < lanes_; o += N) {
      T* moments = moments_ + o;
      const Vec<T> pivot = load<T>(block.left ? moments : tile_ + o);
      Vec<T> sum = {}, squared = {};
      if (block.left) sum = load<T>(moments + lanes_), squared = load<T>(moments + 2 * lanes_);
      for (int64_t k = 0; k < block.count(); ++k) {
        const Vec<T> y = load<T>(tile_ + block.key(k) * lanes_ + o) - pivot;
        sum += y;
        squared += y * y;
      }
      store<T>(moments, pivot);
      store<T>(moments + lanes_, sum);
      store<T>(moments + 2 * lanes_, squared);
    }
    if (block.left + p_.block_size < p_.width) return;
    const T count = T(block.height * p_.width);
    T* statistics = static_cast<T*>(f.statistics) + 2 * row * p_.heads * head_dim_ + head * head_dim_;
    for (int64_t o = 0; o < head_dim_; ++o) {
      const T sum = moments_[lanes_ + o];
      statistics[o] = moments_[o] + sum / count;
      statistics[p_.heads * head_dim_ + o] = moments_[2 * lanes_ + o] - sum * sum / count;
    }
  }

  // The tile becomes the gradient of the outputs: that of the maximum, for the first output that equals it, and that
  // of the statistics.
  template <typename Block>
  SASA_INLINE void make_gradient(const BlockBackward& b, const Block& block, int64_t head) {
    find_peak(block);
    const S* from =
        at<const S>(b.grad_out, block.image, head * head_dim_, block.top / p_.block_size, block.left / p_.block_size);
    T* grads = moments_;
    for (int64_t o = 0; o < head_dim_; ++o) grads[o] = to_arithmetic(from[o * b.grad_out.channel]);
    const T* statistics = static_cast<const T*>(b.statistics) + head * head_dim_;
    const int64_t step = p_.heads * head_dim_;
    if constexpr (!Block::kFull)
      for (int64_t i = 0; i < queries_; ++i)
        if (i % block_size() >= block.width || i / block_size() >= block.height)
          std::fill_n(tile_ + i * lanes_, int64_t(lanes_), T(0));
    for (int64_t o = 0; o < lanes_; o += N) {
      Vec<T> mean = {}, shift = {}, slope = {};
      if (o + N <= head_dim_) {
        mean = load<T>(statistics + o);
        shift = load<T>(statistics + step + o);
        slope = load<T>(statistics + 2 * step + o);
      } else {
        for (int64_t i = 0; o + i < head_dim_; ++i) {
          mean[i] = statistics[o + i];
          shift[i] = statistics[step + o + i];
          slope[i] = statistics[2 * step + o + i];
        }
      }
      const Vec<T> peak = load<T>(peak_ + o);
      Vec<T> left = load<T>(grads + o);  // the maximum's gradient, until an output has it
      for (int64_t k = 0; k < block.count(); ++k) {
        T* to = tile_ + block.key(k) * lanes_ + o;
        const Vec<T> y = load<T>(to);
        const auto first = y == peak;
        const Vec<T> own = first ? left : Vec<T>{};
        left = first ? Vec<T>{} : left;
        store<T>(to, own + shift + slope * (y - mean));
      }
    }
    transpose_tile<T>(tile_, queries_, lanes_, planes_);
  }

  template <typename Block>
  SASA_INLINE void write_all(const Map& out, const Block& block, int64_t head) {
    S* to = at<S>(out, block.image, head * head_dim_, block.top, block.left);
    if (out.channel == 1) {
      for (int64_t y = 0; y < block.rows(); ++y)
        for (int64_t x = 0; x < block.columns(); ++x) {
          const int64_t i = y * block_size() + x;
          S* __restrict pixel = to + y * out.row + x * out.column;
          const T* from = tile_ + i * lanes_;
          const T inverse = inverse_[i];
          for (int64_t o = 0; o < head_dim_; ++o) pixel[o] = to_storage<S>(from[o] * inverse);
        }
      return;
    }
    transpose_tile<T>(tile_, queries_, lanes_, planes_);
    for (int64_t o = 0; o < head_dim_; ++o)
      for (int64_t y = 0; y < block.rows(); ++y) {
        S* run = to + o * out.channel + y * out.row;
        const int64_t i = y * block_size();
        for (int64_t x = 0; x < block.columns(); ++x)
          run[x * out.column] = to_storage<S>(planes_[o * queries_ + i + x] * inverse_[i + x]);
      }
  }

  SASA_INLINE int64_t block_size() const { return Block<true>::kBlock ? Block<true>::kBlock : p_.block_size; }

  // The gradient of the output: tile [query][channel] and planes [channel][query], zero outside the image.
  template <typename Block>
  SASA_INLINE void read_gradient(const Map& grad, const Block& block, int64_t head) {
    const S* from = at<const S>(grad, block.image, head * head_dim_, block.top, block.left);
    if (grad.channel == 1) {
      if constexpr (!Block::kFull) std::fill_n(tile_, queries_ * lanes_, T(0));
      for (int64_t y = 0; y < block.rows(); ++y)
        for (int64_t x = 0; x < block.columns(); ++x) {
          const S* pixel = from + y * grad.row + x * grad.column;
          T* __restrict to = tile_ + (y * block_size() + x) * lanes_;
          for (int64_t o = 0; o < head_dim_; ++o) to[o] = to_arithmetic(pixel[o]);
        }
      transpose_tile<T>(tile_, queries_, lanes_, planes_);
      return;
    }
    if constexpr (!Block::kFull) std::fill_n(planes_, lanes_ * queries_, T(0));
    for (int64_t o = 0; o < head_dim_; ++o)
      for (int64_t y = 0; y < block.rows(); ++y) {
        const S* run = from + o * grad.channel + y * grad.row;
        T* to = planes_ + o * queries_ + y * block_size();
        if (grad.column == 1)
          for (int64_t x = 0; x < block.columns(); ++x) to[x] = to_arithmetic(run[x]);
        else
          for (int64_t x = 0; x < block.columns(); ++x) to[x] = to_arithmetic(run[x * grad.column]);
      }
    transpose_tile<T>(planes_, lanes_, queries_, tile_);
  }

  template <typename Block>
  SASA_INLINE void add_to_v_weight(const Block& block, int64_t head) {
    for (int64_t k = 0; k < block.count(); ++k) {
      const int64_t j = block.key(k);
      for (int64_t o = 0; o < lanes_; o += N) {
        const Vec<T> grad = load<T>(grad_values_ + k * lanes_ + o);
        for (int64_t c = 0; c < channels_; ++c) {
          T* to = v_weight_at(grad_v_weight_, head, j, c) + o;
          store<T>(to, load<T>(to) + grad * broadcast<T>(block.pixels[c * queries_ + j]));
        }
      }
    }
  }

  // The gradients of the weights to those of the logits, and these to the gradients of qk_weight and rel_weight.
  template <typename Block>
  SASA_INLINE void add_to_logits(const Block& block, int64_t head) {
    for (int64_t q = 0; q < queries_; q += N) {
      Vec<T> mean = {};
      for (int64_t k = 0; k < block.count(); ++k)
        mean += load<T>(weights_ + k * queries_ + q) * load<T>(grad_logits_ + k * queries_ + q);
      for (int64_t first = 0; first < channels_; first += kChannelStep) {
        Vec<T> x[kChannelStep], z[kChannelStep] = {};
#pragma GCC unroll 4
        for (int c = 0; c < kChannelStep; ++c) x[c] = load<T>(block.pixels + (first + c) * queries_ + q);
        for (int64_t k = 0; k < block.count(); ++k) {
          const int64_t j = block.key(k);
          const Vec<T> grad = load<T>(weights_ + k * queries_ + q) *
                              (load<T>(grad_logits_ + k * queries_ + q) - mean);
          T* rel_weight = rel_weight_at(grad_rel_weight_, head, j, first) + q;
#pragma GCC unroll 4
          for (int c = 0; c < kChannelStep; ++c) {
            T* to = rel_weight + c * queries_;
            store<T>(to, load<T>(to) + grad * x[c]);
            z[c] += grad * broadcast<T>(block.pixels[(first + c) * queries_ + j]);
          }
        }
#pragma GCC unroll 4
        for (int c = 0; c < kChannelStep; ++c) store<T>(grad_keys_ + (first + c) * queries_ + q, z[c]);
      }
      for (int64_t c = 0; c < channels_; ++c)
        for (int64_t d = 0; d < channels_; ++d) {
          T* to = grad_qk_weight_ + ((head * channels_ + c) * channels_ + d) * queries_ + q;
          store<T>(to, load<T>(to) + load<T>(block.pixels + c * queries_ + q) *
                                         load<T>(grad_keys_ + d * queries_ + q));
        }
    }
  }

  void write_gradients(const BlockBackward& b, int64_t chunk) const {
    const int64_t qk_size = p_.heads * channels_ * channels_;
    T* to = static_cast<T*>(b.grad_qk_weight) + chunk * qk_size;
    for (int64_t f = 0; f < qk_size; ++f) {
      T sum = 0;
      for (int64_t i = 0; i < queries_; ++i) sum += grad_qk_weight_[f * queries_ + i];
      to[f] = sum;
    }
    T* to_rel = static_cast<T*>(b.grad_rel_weight) + chunk * p_.heads * channels_ * positions_ * positions_;
    T* to_v = static_cast<T*>(b.grad_v_weight) + chunk * positions_ * p_.heads * head_dim_ * channels_;
    for (int64_t n = 0; n < p_.heads; ++n)
      for (int64_t c = 0; c < channels_; ++c)
        for (int64_t j = 0; j < positions_; ++j) {
          const T* from = rel_weight_at(grad_rel_weight_, n, j, c);
          for (int64_t i = 0; i < positions_; ++i)
            to_rel[((n * channels_ + c) * positions_ + i) * positions_ + j] = from[i];
          from = v_weight_at(grad_v_weight_, n, j, c);
          for (int64_t o = 0; o < head_dim_; ++o)
            to_v[((j * p_.heads + n) * head_dim_ + o) * channels_ + c] = from[o];
        }
  }

  const BlockProblem& p_;
  Extent<C> channels_;
  Extent<P> positions_;
  Extent<D> head_dim_;
  Extent<P ? int(round_up(P, kUnit)) : 0> queries_;  // positions, padded
  Extent<D ? int(round_up(D, kUnit)) : 0> lanes_;    // channels of a head, padded

  T *qk_weight_, *rel_weight_, *v_weight_;  // [head][c][d], [head][key][c][query], [head][key][c][channel]
  int64_t *keys_, *last_keys_;  // of the blocks of a row, and of its last block
  T* pixels_;  // of a row of blocks, [block][c][position]
  T *projected_, *weights_, *inverse_, *inside_, *values_, *tile_, *planes_;
  T *peak_, *moments_;  // of a head's channels: the maximum; a first output, sum and sum of squares around it
  T *grad_qk_weight_, *grad_rel_weight_, *grad_v_weight_;  // as the packed arguments; that of qk_weight per query
  T *grad_values_, *grad_logits_, *grad_keys_;
};

}  // namespace SASA_CAPABILITY
}  // namespace sasa
