/* Two private copies of the library in one program: this one and static_other.c. */
#define RV_STATIC
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"

#include "smoke.h"

int other(void);

int main(void)
{
    return smoke(NULL) | other();
}
