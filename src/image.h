#ifndef RV_IMAGE_H
#define RV_IMAGE_H
#include "base.h"

/* >>image  The memory image every index is saved to. Little-endian on every machine.

   header, 64 bytes:
     0 "RVIM" | 4 u32 format version, 1 | 8 u32 kind ("FLAT", "HNSW", ...) | 12 u32 flags, 0 |
     16 u64 total bytes | 24 u32 sections, at most 48 | 28 u32 0 | 32 u64 checksum of everything
     behind the header | 40 u64 checksum of the header, this field as 0 | 48 16 zero bytes
   sections: arrays of 1, 2, 4 or 8 byte elements; each starts at the first multiple of 64 behind
     the one before it (the first one at 64), gaps are zero
   section table: the last 32 * sections bytes of the image, on a multiple of 64; per section, in
     order: u32 tag | u32 bytes of an element | u64 offset | u64 element count | u64 0
   checksum of 64-bit little-endian words w[0..m-1], m a multiple of 4, arithmetic modulo 2^64:
     mix(x): x += 0x9E3779B97F4A7C15; x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
             x = (x ^ x >> 27) * 0x94D049BB133111EB; return x ^ x >> 31
     a[j] = mix(j) for j = 0..3; for each i: a[i % 4] = rotl((a[i % 4] ^ w[i]) * P, 29) with
     P = 0x9E3779B97F4A7C15; h = mix(m); for j = 0..3: h = mix(h ^ a[j]); the checksum is h

   What the sections of a kind mean stands in that index's part, those of the rows in store.c.

   Every count is validated against the total length before anything is allocated. The checksum
   guards against damage, not against an attacker; the loaders therefore also validate every value
   (ids in range, degrees, sorted lists), so that a crafted image is an error as well. */

/* Kind tag of an image such as "HNSW" into kind[5] and its total length; RV_ERR_FORMAT when the
   header is not a valid one. Looks at the first 64 bytes only, so that a program may read these
   from a file to learn how much to read. image may lie at any address. */
RV_API rv_status rv_image_info(rv_ctx *ctx, const void *image, size_t bytes, char kind[5],
                               uint64_t *total_bytes);

#endif /* RV_IMAGE_H */
