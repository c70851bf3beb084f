# ruvector. `make help` lists the targets. `make` and `make demo` need a C compiler, make, python3.
#
# The build rules stand here once; the values of each configuration (compiler, language, flags,
# target) stand in tools/test.py once, which calls back with them: `make check CONFIG=asan`.

PYTHON   ?= python3
CONFIG   ?= native
BUILD    ?= build
ROOT     ?= .
B        := $(BUILD)/$(CONFIG)
LANGUAGE ?= c
STANDARD ?= -std=c99
OPTIMIZE ?= -O2
THREADS  ?= -DRV_THREADS -pthread
EXE      ?=
EXTRA    ?=
LINK     ?=

WARNINGS = -Wall -Wextra -pedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual \
           -Wcast-align -Wundef -Wdouble-promotion -Wvla
ifeq ($(LANGUAGE),c)
WARNINGS += -Wstrict-prototypes -Wmissing-prototypes -Wdeclaration-after-statement
endif

COMPILE   = $(CC) $(STANDARD) $(OPTIMIZE) $(WARNINGS) $(THREADS) $(EXTRA) $(CFLAGS)
LIBRARY   = $(B)/ruvector.o
FINISH    = $(LINK) -lm
PARTS    := $(shell find src -type f)
SUPPORT  := $(wildcard tests/*.h tests/golden/*.h)

TESTS    ?= $(patsubst tests/%.c,%,$(wildcard tests/test_*.c))
WHITES   ?= $(patsubst tests/%.c,%,$(wildcard tests/white_*.c))
REPLAYS  ?= $(patsubst tests/fuzz_%.c,replay_%,$(filter-out tests/fuzz_main.c,\
                $(wildcard tests/fuzz_*.c)))
EXAMPLES ?= $(patsubst examples/%.c,example_%,$(wildcard examples/*.c))
BENCHES  := $(patsubst bench/%.c,%,$(wildcard bench/bench_$(or $(ONLY),*).c))
PROGRAMS  = $(TESTS:%=$(B)/%$(EXE)) $(WHITES:%=$(B)/%$(EXE))

.PHONY: all amalgamate library tests replays examples check check-all test bench bench-peers fuzz \
        fuzzer coverage demo format new pg pg-install pg-check clean help FORCE

all: ruvector.h library tests examples ## amalgamate; build the library object, tests and examples

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

# ---- generated files: rewritten only when their text changes ----

ruvector.h: $(PARTS) tools/amalgamate.py
	@$(PYTHON) tools/amalgamate.py

amalgamate: ## generate ruvector.h, ruvector_pg.c and the install script from src/
	@$(PYTHON) tools/amalgamate.py

# ---- building; the library is compiled once per configuration ----

$(B)/flags: FORCE
	@mkdir -p $(B)
	@echo '$(COMPILE) $(FINISH)' | cmp -s - $@ || echo '$(COMPILE) $(FINISH)' > $@

library: $(LIBRARY)
$(LIBRARY): ruvector.h $(ROOT)/ruvector.h $(B)/flags
	$(COMPILE) -DRUVECTOR_IMPLEMENTATION -x $(LANGUAGE) -c $(ROOT)/ruvector.h -o $@

tests: $(PROGRAMS)
$(B)/test_%$(EXE): tests/test_%.c $(SUPPORT) $(LIBRARY)
	$(COMPILE) -I$(ROOT) -Itests -x $(LANGUAGE) $< -x none $(LIBRARY) -o $@ $(FINISH)

# White-box tests include one part and link without the library.
$(B)/white_%$(EXE): tests/white_%.c $(SUPPORT) $(PARTS) $(B)/flags
	$(COMPILE) -DRV_TEST_WHITE -Isrc -Itests -x $(LANGUAGE) $< -x none -o $@ $(FINISH)

replays: $(REPLAYS:%=$(B)/%$(EXE))
$(B)/replay_%$(EXE): tests/fuzz_%.c tests/fuzz_main.c $(SUPPORT) $(LIBRARY)
	$(COMPILE) -I$(ROOT) -Itests -x $(LANGUAGE) $< tests/fuzz_main.c \
	    -x none $(LIBRARY) -o $@ $(FINISH)

# An example holds the implementation, as its user's program does. Here it is given declarations
# only and the one object, because compiling the library anew for each takes minutes. Those with
# RV_STATIC keep the implementation: of it they compile what they call, which is faster than all.
ALONE    := $(shell grep -l 'define RV_STATIC' examples/*.c)
examples: $(EXAMPLES:%=$(B)/%$(EXE))
$(ALONE:examples/%.c=$(B)/example_%$(EXE)): $(B)/example_%$(EXE): examples/%.c \
        $(wildcard examples/*.h examples/data/*.h) ruvector.h $(B)/flags
	$(COMPILE) -I. -x $(LANGUAGE) $< -x none -o $@ $(FINISH)
$(B)/declare/ruvector.h: $(B)/flags
	@mkdir -p $(B)/declare
	@printf '%s\n' '#ifndef RV_STATIC' '#undef RUVECTOR_IMPLEMENTATION' '#endif' \
	    '#include "$(CURDIR)/ruvector.h"' > $@
$(B)/example_%$(EXE): examples/%.c $(wildcard examples/*.h examples/data/*.h) $(LIBRARY) \
        $(B)/declare/ruvector.h
	$(COMPILE) -I$(B)/declare -I. -x $(LANGUAGE) $< -x none $(LIBRARY) -o $@ $(FINISH)

$(B)/bench_%: bench/bench_%.c bench/rv_bench.h $(LIBRARY)
	$(COMPILE) -I. -Ibench $< $(LIBRARY) -o $@ $(FINISH)

# ---- testing ----

check: ## the short check, under 3 minutes; CONFIG=name runs one configuration of check-all
	@$(PYTHON) tools/test.py $(if $(filter-out native,$(CONFIG)),$(CONFIG),check)

check-all: ## every compiler, language, target, sanitizer, option and fuzzer
	@$(PYTHON) tools/test.py all

test: ## everything the CI runs: installs what it needs, then check-all
	@tools/setup.sh
	@$(PYTHON) tools/test.py all

coverage: ## line coverage of src/, with the gate
	@$(PYTHON) tools/test.py coverage

FUZZ_SECONDS ?= 60
FUZZ_SEED    ?= 0
FUZZ_FLAGS   := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
fuzz: fuzzer ## FOR=x: fuzz tests/fuzz_x.c with clang for FUZZ_SECONDS (60)
	@mkdir -p $(BUILD)/fuzz/new_$(FOR) $(BUILD)/fuzz/found tests/corpus/$(FOR)
	$(BUILD)/fuzz/fuzz_$(FOR) -max_total_time=$(FUZZ_SECONDS) -seed=$(FUZZ_SEED) -timeout=20 \
	    -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix=$(BUILD)/fuzz/found/ \
	    $(BUILD)/fuzz/new_$(FOR) tests/corpus/$(FOR)

fuzzer:
	@test -f 'tests/fuzz_$(FOR).c' || { echo "say which: make fuzz FOR=x, one of:" \
	    $(patsubst replay_%,%,$(REPLAYS)); exit 1; }
	@$(MAKE) --no-print-directory CONFIG=fuzz CC=clang OPTIMIZE='-O1 -g' THREADS= \
	    EXTRA='$(FUZZ_FLAGS)' LINK=-fsanitize=fuzzer $(BUILD)/fuzz/fuzz_$(FOR)
$(B)/fuzz_%: tests/fuzz_%.c $(SUPPORT) $(LIBRARY)
	$(COMPILE) -I. -Itests $< $(LIBRARY) -o $@ $(FINISH)

# ---- measuring ----

bench: $(BENCHES:%=$(B)/%) ## measure; ONLY=x for one module
	@for program in $^; do $$program || exit 1; done

bench-peers: ruvector.h ## measure against hnswlib, faiss and others; ARGS='--quick'
	@$(PYTHON) tools/bench_peers.py $(ARGS)

demo: ## semantic search over real text, the main job; ARGS='"a phrase" "another"'
	@$(MAKE) --no-print-directory $(B)/example_demo$(EXE)
	@$(B)/example_demo$(EXE) $(ARGS)

# ---- PostgreSQL ----

print-warnings: FORCE
	@echo '$(WARNINGS)'

pg pg-install pg-check: ruvector.h ## build, install, test the PostgreSQL extension
	@$(MAKE) --no-print-directory -f tools/pgxs.mk $@

# ---- housekeeping ----

format: ## clang-format over everything edited by hand
	clang-format -i $(filter %.h %.c %.inl,$(PARTS)) $(wildcard tests/*.[ch] tests/*/*.[ch] \
	    bench/*.[ch] examples/*.c)

new: ## NAME=x: create all rooms of a new module
	@$(PYTHON) tools/new_module.py '$(NAME)'

clean: ## remove build/
	rm -rf $(BUILD)
