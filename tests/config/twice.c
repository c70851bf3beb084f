/* Included again and again, with and without the implementation, in one unit. */
#include "ruvector.h"
#include "ruvector.h"
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"
#include "ruvector.h"
#undef RUVECTOR_IMPLEMENTATION
#include "ruvector.h"

#include "smoke.h"

int main(void)
{
    return smoke(NULL);
}
