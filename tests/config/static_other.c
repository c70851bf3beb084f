/* The second private copy. */
#define RV_STATIC
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"

#include "smoke.h"

int other(void);

int other(void)
{
    return smoke(NULL);
}
