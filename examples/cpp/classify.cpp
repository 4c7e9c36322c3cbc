// Runs an AOTInductor package of `sasa export RUN --to aoti` on a gradient as the image and prints the logits, without Python.
//
//   classify MODEL.pt2 LIBRARY CHANNELS HEIGHT WIDTH
//
// LIBRARY is _cpu.so in the folder of the installed package sasa.
#include <ATen/ATen.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdlib>
#include <iostream>

#include "sasa_ops.h"

int main(int argc, char** argv) {
  if (argc != 6) {
    std::cerr << "usage: classify MODEL.pt2 LIBRARY CHANNELS HEIGHT WIDTH\n";
    return 2;
  }
  if (!dlopen(argv[2], RTLD_NOW)) {  // the kernels of the ops, which the package calls
    std::cerr << dlerror() << "\n";
    return 1;
  }
  const c10::InferenceMode inference;
  torch::inductor::AOTIModelPackageLoader model(argv[1]);
  const int64_t channels = std::atoll(argv[3]), height = std::atoll(argv[4]), width = std::atoll(argv[5]);
  const at::Tensor image = at::linspace(0, 1, channels * height * width).view({1, channels, height, width});
  const at::Tensor logits = model.run({image}).at(0);
  std::cout.precision(9);
  for (int64_t i = 0; i < logits.size(1); ++i) std::cout << logits[0][i].item<float>() << "\n";
}
