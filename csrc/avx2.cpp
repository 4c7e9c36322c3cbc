#define SASA_CAPABILITY avx2
#include "kernels.h"
#include "square_kernels.h"
