#define SASA_CAPABILITY avx512
#include "kernels.h"
