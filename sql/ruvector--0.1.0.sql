-- GENERATED from src/ruvector.sql by tools/amalgamate.py: edit src/, then run `make amalgamate`.
-- Version 0.1.0, parts sha256 f5adb06eecc2dee803f7a23842b9f9107175fd91d2365e647ced1d8e0642c6e4
-- The install script of the extension: the ordered list of its parts, with the stems of
-- src/ruvector_pg.c. Parts stand in src/pg/. An include line here reads as it does in C.

-- types

-- access methods

-- functions
