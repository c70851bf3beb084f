#!/usr/bin/env python3
"""Creates all rooms of a new module and adds its line to each spine.

    tools/new_module.py NAME [--chapter features] [--fuzz]

NAME is a stem: lower-case letters and digits. The result compiles, passes lint and its test, and
says nothing yet: fill the rooms in. Existing files are never touched.
"""
import argparse
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

ROOMS = {
    "src/@x@.h": """\
#ifndef RV_@X@_H
#define RV_@X@_H
#include "base.h"

/* >>@x@  What it computes, when to choose it and when not. Cost: O(n). Limits: n below 2^32.
   Thread class: pure.

       float sum = rv_@x@_sum_f32(vector, 3);
*/

/* The sum of x. x: [n]. 0 for n = 0; NaN and infinity propagate. Accumulated in double. */
RV_API float rv_@x@_sum_f32(const float *x, size_t n);

#endif /* RV_@X@_H */
""",
    "src/@x@.c": """\
#ifndef RV_@X@_C
#define RV_@X@_C
#include "@x@.h"
#include "base.c"

/* Outline of the algorithm and the choices made, in 5 to 15 lines.
   Source: authors, title, year. Deviations from it: none. */

RV_API float rv_@x@_sum_f32(const float *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i];
    return (float)sum;
}

#endif /* RV_@X@_C */
""",
    "src/pg/@x@.c": """\
/* @x@ as SQL sees it. No arithmetic here: fetch arguments, call rv_*, return. */
""",
    "src/pg/@x@.sql": """\
-- @x@: the SQL objects that src/pg/@x@.c defines.
""",
    "tests/test_@x@.c": """\
/* @x@: contract, golden values, faults. */
#include "rv_test.h"

static void test_@x@_sum(void)
{
    static const float x[] = {1.0f, 2.0f, 4.0f}; /* sums 0, 1, 3, 7 are exact */
    static const double sums[] = {0.0, 1.0, 3.0, 7.0};
    for (size_t n = 0; n < RV_COUNT_OF(sums); n++) {
        rv_test_row("length", n);
        RV_NEAR(rv_@x@_sum_f32(x, n), sums[n], 0.0);
    }
}

int main(void)
{
    rv_test_begin("@x@");
    RV_RUN(test_@x@_sum);
    return rv_test_end();
}
""",
    "bench/bench_@x@.c": """\
/* @x@: ns per call. */
#include "rv_bench.h"

#include "ruvector.h"

static float rows[768];

static void run_sum(void *arg)
{
    (void)arg;
    rv_bench_sink((double)rv_@x@_sum_f32(rows, 768));
}

int main(int argc, char **argv)
{
    rv_bench b;
    rv_bench_begin(&b, "@x@", argc, argv);
    if (rv_bench_wanted(&b, "sum_f32")) {
        double ns = rv_bench_time(&b, run_sum, NULL);
        rv_bench_line(&b, "sum_f32", 1, 768, "scalar", ns, sizeof rows, 768.0);
    }
    return rv_bench_end(&b);
}
""",
    "examples/@x@.c": """\
/* @x@: what the example shows, in one sentence. */
#define RUVECTOR_IMPLEMENTATION
#include "ruvector.h"

#include <stdio.h>

int main(void)
{
    const float x[3] = {1.0f, 2.0f, 4.0f};
    printf("%g\\n", (double)rv_@x@_sum_f32(x, 3));
    return 0;
}
""",
    "tests/sql/@x@.sql": """\
-- @x@ through SQL.
""",
    "tests/expected/@x@.out": """\
-- @x@ through SQL.
""",
}
FUZZ = {
    "tests/fuzz_@x@.c": """\
/* @x@ fed with bytes. */
#include "ruvector.h"

#include <string.h>

#ifdef __cplusplus
extern "C"
#endif
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float x[64];
    size_t n = size / sizeof x[0] < 64 ? size / sizeof x[0] : 64;
    if (n) memcpy(x, data, n * sizeof x[0]);
    (void)rv_@x@_sum_f32(x, n);
    return 0;
}
""",
    "tests/corpus/@x@/empty": "",
}


def path_of(name):
    return os.path.join(ROOT, name)


def insert(lines, chapter, text, spine, start=0):
    """Puts text after the last include of a chapter, which begins with its comment line."""
    for i in range(start, len(lines)):
        if re.match(r"(/\*|--) %s( \*/)?$" % re.escape(chapter), lines[i]):
            end = i + 1
            while end < len(lines) and lines[end].startswith("#include"):
                end += 1
            lines.insert(end, text)
            return end + 1
    sys.exit("new_module: %s has no chapter called %s" % (spine, chapter))


def main():
    parser = argparse.ArgumentParser(description="Creates all rooms of a new module.")
    parser.add_argument("name")
    parser.add_argument("--chapter", default="features", help="chapter of src/ruvector.h")
    parser.add_argument("--fuzz", action="store_true", help="also a fuzz target and its corpus")
    options = parser.parse_args()
    name = options.name
    if not re.match(r"[a-z][a-z0-9]*$", name):
        sys.exit("new_module: a stem is lower-case letters and digits, not '%s'" % name)
    rooms = dict(ROOMS, **(FUZZ if options.fuzz else {}))
    rooms = {path.replace("@x@", name): text for path, text in rooms.items()}
    taken = [path for path in rooms if os.path.exists(path_of(path))]
    if taken:
        sys.exit("new_module: already there: %s" % ", ".join(sorted(taken)))

    # The spines first: when a chapter is missing nothing has been written.
    spines = {}
    for spine in ("src/ruvector.h", "src/ruvector_pg.c", "src/ruvector.sql"):
        with open(path_of(spine), encoding="ascii") as file:
            spines[spine] = file.read().split("\n")
    public = spines["src/ruvector.h"]
    after = insert(public, options.chapter, '#include "%s.h"' % name, "src/ruvector.h")
    insert(public, options.chapter, '#include "%s.c"' % name, "src/ruvector.h", after)
    for spine, kind in (("src/ruvector_pg.c", "c"), ("src/ruvector.sql", "sql")):
        insert(spines[spine], "functions", '#include "pg/%s.%s"' % (name, kind), spine)
    for i, line in enumerate(public):
        if re.match(r"\s+>>\w+ ", line) and not re.match(r"\s+>>\w+ ", public[i + 1]):
            public.insert(i + 1, "       >>%-9s what it is in five words" % name)
            break

    for path, text in rooms.items():
        os.makedirs(os.path.dirname(path_of(path)), exist_ok=True)
        with open(path_of(path), "w", encoding="ascii", newline="\n") as file:
            file.write(text.replace("@x@", name).replace("@X@", name.upper()))
    for spine, lines in spines.items():
        with open(path_of(spine), "w", encoding="ascii", newline="\n") as file:
            file.write("\n".join(lines))
    with open(path_of("CHANGELOG.md"), encoding="ascii") as file:
        text = file.read()
    added = re.search(r"^## Unreleased\n+### Added\n+(?:[-* ].*\n)*", text, re.M)
    if added:
        text = text[:added.end()] + "- %s: what it is in one line.\n" % name + text[added.end():]
        with open(path_of("CHANGELOG.md"), "w", encoding="ascii", newline="\n") as file:
            file.write(text)
    print("\n".join(sorted(rooms)))
    return subprocess.call([sys.executable, path_of("tools/amalgamate.py")])


if __name__ == "__main__":
    sys.exit(main())
