// The memory that a thread computes in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "common/vec.h"

namespace sasa {
namespace SASA_CAPABILITY {

// AddressSanitizer detects an access beyond a piece only if the memory ends there, and `make test-poisoned` a read of
// unwritten memory only if the memory is new.
#if defined(__SANITIZE_ADDRESS__) || defined(SASA_NEW_SCRATCH)
constexpr bool kExactPieces = true;
#else
constexpr bool kExactPieces = false;
#endif

// Pieces are aligned for vectors, with a guard of 64 bytes behind each. A thread keeps its memory for the
// next call, since fresh pages cost more than the computation on small maps.
class Scratch {
 public:
  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }

  void reset() { used_ = 0; }

  template <typename T>
  T* zeros(int64_t count) {
    const std::size_t bytes = with_guard(std::size_t(count) * sizeof(T));
    return static_cast<T*>(std::memset(next(bytes), 0, bytes));
  }

  // With unspecified contents.
  template <typename T>
  T* any(int64_t count) {
    return static_cast<T*>(next(with_guard(std::size_t(count) * sizeof(T))));
  }

 private:
  static std::size_t with_guard(std::size_t bytes) { return kExactPieces ? bytes : (bytes + 127) / 64 * 64; }

  void* next(std::size_t bytes) {
    if (used_ == pieces_.size()) pieces_.push_back({});
    Piece& piece = pieces_[used_++];
    if (kExactPieces || piece.size < bytes) {
      piece.memory.reset();
      piece.size = 0;
      piece.memory.reset(static_cast<char*>(::operator new(bytes, std::align_val_t(64))));
      piece.size = bytes;
    }
    return piece.memory.get();
  }

  struct Free {
    void operator()(char* p) const { ::operator delete(p, std::align_val_t(64)); }
  };
  struct Piece {
    std::unique_ptr<char, Free> memory;
    std::size_t size = 0;
  };
  std::vector<Piece> pieces_;
  std::size_t used_ = 0;
};

}  // namespace SASA_CAPABILITY
}  // namespace sasa
