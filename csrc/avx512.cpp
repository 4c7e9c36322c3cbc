#define SASA_CAPABILITY avx512
#include "kernels.h"
#include "block_kernels.h"
