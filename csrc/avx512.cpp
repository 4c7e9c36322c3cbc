#define SASA_CAPABILITY avx512
#include "kernels.h"
#include "square_kernels.h"
