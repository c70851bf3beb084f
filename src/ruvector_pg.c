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
