# The PostgreSQL side of the Makefile, through PGXS: make pg, pg-install, pg-check. Used by the
# Makefile only; plain `make` works on machines without PostgreSQL. PG_CONFIG chooses the server.

PG_CONFIG ?= pg_config
ifeq ($(shell command -v $(PG_CONFIG) 2>/dev/null),)
pg pg-install pg-check:
	@echo "$@: $(PG_CONFIG) is not here; install postgresql-server-dev-XX, or set PG_CONFIG"; exit 1
else
EXTENSION  = ruvector
MODULE_big = ruvector
OBJS       = ruvector_pg.o
DATA       = $(wildcard sql/ruvector--*.sql)
REGRESS    = $(patsubst tests/sql/%.sql,%,$(wildcard tests/sql/*.sql))
REGRESS_OPTS = --inputdir=tests --load-extension=ruvector
SHLIB_LINK = -lm

pg: all
pg-install: install
pg-check: installcheck

ruvector_pg.o: ruvector.h
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
endif
.PHONY: pg pg-install pg-check
