/* Names that PostgreSQL, Windows, <complex.h>, gettext and many a program define as macros. Any use
   of one as an identifier in the library is an error here. */
#ifndef POISON_H
#define POISON_H

#define POISON poison poison poison
/* windef.h */
#define near POISON
#define far POISON
#define min POISON
#define max POISON
#define IN POISON
#define OUT POISON
#define OPTIONAL POISON
#define interface POISON
#define small POISON
#define hyper POISON
#define DELETE POISON
#define NO_ERROR POISON
/* postgres.h and c.h */
#define ERROR POISON
#define LOG POISON
#define DEBUG1 POISON
#define INFO POISON
#define NOTICE POISON
#define WARNING POISON
#define FATAL POISON
#define PANIC POISON
#define Abs POISON
#define Max POISON
#define Min POISON
#define likely POISON
#define unlikely POISON
#define Assert POISON
#define StaticAssertStmt POISON
#define lengthof POISON
#define foreach POISON
#define PG_TRY POISON
#undef _
#define _ POISON
#define gettext POISON
/* complex.h, math.h in its non-strict modes, termios.h, ctype and sys/param.h */
#undef I
#define I POISON
#undef complex
#define complex POISON
#define imaginary POISON
#define PI POISON
#undef M_PI
#define M_PI POISON
#define EPSILON POISON
#undef B0
#define B0 POISON
#define B1 POISON
#undef howmany
#define howmany POISON
#undef roundup
#define roundup POISON
#undef powerof2
#define powerof2 POISON
#undef MIN
#define MIN POISON
#undef MAX
#define MAX POISON
#define ABS POISON
#define SIGN POISON
#define SWAP POISON
#define CLAMP POISON
#define countof POISON
#define ARRAY_SIZE POISON
#undef TRUE
#define TRUE POISON
#undef FALSE
#define FALSE POISON
#undef unix
#define unix POISON
#undef linux
#define linux POISON
#undef major
#define major POISON
#undef minor
#define minor POISON
#undef stdin
#define stdin POISON
#undef errno
#define errno POISON
#undef assert
#define assert POISON

#endif
