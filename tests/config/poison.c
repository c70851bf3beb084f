/* The library after other people's macros. System headers come first, as they do where such macros
   are defined: what is tested is our own text. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "poison.h"

#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"

#include "smoke.h"

int main(void)
{
    return smoke(NULL);
}
