#define SASA_CAPABILITY avx2
#include "kernels.h"
#include "block_kernels.h"
