#define SASA_CAPABILITY portable
#include "kernels.h"
#include "block_kernels.h"
