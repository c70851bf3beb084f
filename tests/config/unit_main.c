/* A unit with declarations only, linked to unit_impl.c. */
#include "ruvector.h"

#include "smoke.h"

int main(void)
{
    return smoke(NULL);
}
