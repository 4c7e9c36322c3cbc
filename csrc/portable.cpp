#define SASA_CAPABILITY portable
#include "kernels.h"
#include "square_kernels.h"
