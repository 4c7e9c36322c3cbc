#define SASA_CAPABILITY portable
#include "kernels.h"
