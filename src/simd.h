#ifndef RV_SIMD_H
#define RV_SIMD_H
#include "base.h"

/* >>simd  What this processor offers. Thread class: pure. */

/* Best instruction set of this processor and build, at most `isa` (RV_ISA_BEST: no limit). */
RV_API rv_isa rv_isa_resolve(rv_isa isa);
RV_API const char *rv_isa_name(rv_isa isa); /* "avx512", ... */

/* Sub-features found on this processor, as a bit set. FP16 and NEON_FP16 are reported only: sums in
   halves, 11 bits instead of 24, would miss the error that distance.h states by a factor of 2^13,
   and widening to floats needs neither. */
typedef enum rv_feature {
    RV_FEATURE_VNNI = 1,      /* AVX-512 8-bit dot products         */
    RV_FEATURE_BF16 = 2,      /* AVX-512 bfloat16 dot products      */
    RV_FEATURE_FP16 = 4,      /* AVX-512 half arithmetic            */
    RV_FEATURE_POPCNT512 = 8, /* AVX-512 VPOPCNTDQ                  */
    RV_FEATURE_AMX_INT8 = 16, /* AMX 8-bit tiles, usable            */
    RV_FEATURE_DOTPROD = 32,  /* AArch64 SDOT                       */
    RV_FEATURE_NEON_FP16 = 64 /* AArch64 half arithmetic            */
} rv_feature;
RV_API uint32_t rv_features(void);

#endif /* RV_SIMD_H */
