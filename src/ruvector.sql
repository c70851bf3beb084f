-- The install script of the extension: the ordered list of its parts, with the stems of
-- src/ruvector_pg.c. Parts stand in src/pg/. An include line here reads as it does in C.

-- types

-- access methods

-- functions
