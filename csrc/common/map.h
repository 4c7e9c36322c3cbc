// How the kernels see a tensor: its storage type, address and strides. Without torch.
#pragma once

#include <cstdint>

namespace sasa {

enum class Storage { kFloat32, kBFloat16, kFloat64 };

// A map (B, C, H, W) in memory, with any strides, in elements.
struct Map {
  void* data = nullptr;  // null: absent
  int64_t batch = 0, channel = 0, row = 0, column = 0;
};

}  // namespace sasa
