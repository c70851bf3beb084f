/* The one unit that holds the implementation. */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
