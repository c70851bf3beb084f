/* GENERATED from src/ruvector_pg.c by tools/amalgamate.py: edit src/, then run `make amalgamate`. */
/* Version 0.1.0, parts sha256 d32038ac0cce61365f99df7ba19f9eb25971b494465fbc6cb5819264cab7e61d */
/* The PostgreSQL extension: the ordered list of its parts. src/pg/compat.h comes first (postgres.h,
   then version shims); then the library with RV_STATIC, glue, types, access methods, SQL functions
   by module, settings, module. Parts stand in src/pg/ and call only public rv_ names. */

/* compat */

/* library */
/* Private to this file, so that no symbol of it leaves the shared object. */
#define RV_STATIC
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"

/* glue */

/* types */

/* access methods */

/* functions */

/* module */
