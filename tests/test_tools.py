#!/usr/bin/env python3
"""The tools that guard the house, each rule tried on a small tree of its own."""
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COUNT = [0, 0]

TREE = {
    "src/ruvector.h": """\
/* Manual.
       >>base  ground
*/
#ifndef RUVECTOR_H
#define RUVECTOR_H

/* ground */
#include "base.h"

/* features */
#include "flat.h"

#endif

#if defined(RUVECTOR_IMPLEMENTATION) && !defined(RUVECTOR_IMPLEMENTED)
#define RUVECTOR_IMPLEMENTED

/* ground */
#include "base.c"

/* features */
#include "flat.c"
#include "hnsw.c"

/* end */
#include "base_end.inl"

#endif
""",
    "src/base.h": """\
#ifndef RV_BASE_H
#define RV_BASE_H
#define RV_VERSION_MAJOR 0
#define RV_VERSION_MINOR 1
#define RV_VERSION_PATCH 0
#define RV_API extern
#include <stddef.h>
#endif
""",
    "src/base.c": """\
#ifndef RV_BASE_C
#define RV_BASE_C
#include "base.h"
#define RV__FN static __attribute__((unused))
RV_API const char *rv_version(void)
{
    return "0.1.0";
}
#endif
""",
    "src/base_end.inl": "#undef RV__FN\n",
    "src/flat.h": "#ifndef RV_FLAT_H\n#define RV_FLAT_H\n#include \"base.h\"\n#endif\n",
    "src/flat.c": """\
#ifndef RV_FLAT_C
#define RV_FLAT_C
#include "flat.h"
#include "base.c"
RV__FN int rv__flat_one(void)
{
    return 1;
}
#endif
""",
    "src/hnsw.c": """\
#ifndef RV_HNSW_C
#define RV_HNSW_C
#include "base.c"
RV__FN int rv__hnsw_one(void)
{
    return 1;
}
#endif
""",
    "src/ruvector_pg.c": "/* library */\n#define RV_STATIC\n#include \"ruvector.h\"\n\n/* functions */\n",
    "src/ruvector.sql": "-- functions\n",
    "ruvector.control": "default_version = '0.1.0'\n",
    "tests/config/poison.h": "#define POISON x\n#define near POISON\n",
    "CHANGELOG.md": "# Changelog\n\n## Unreleased\n\n### Added\n\n- base: ground.\n",
}


class Tree:
    """A copy of TREE with changes, and the tools in it."""
    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="ruvector-tools-")
        os.mkdir(self.path("tools"))
        for tool in ("amalgamate.py", "lint.py", "new_module.py"):
            shutil.copy(os.path.join(ROOT, "tools", tool), self.path("tools"))
        for name, text in TREE.items():
            self.write(name, text)
        subprocess.run(["git", "init", "-q", self.root], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.root)

    def path(self, name):
        return os.path.join(self.root, name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read().decode("latin-1")

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(text.encode("utf-8"))

    def change(self, name, old, new):
        text = self.read(name)
        assert old in text, (name, old)
        self.write(name, text.replace(old, new, 1))

    def run(self, tool, *arguments):
        done = subprocess.run([sys.executable, self.path("tools/" + tool)] + list(arguments), cwd="/",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout.decode()


def check(condition, what):
    COUNT[0 if condition else 1] += 1
    if not condition:
        print("failed: %s" % what)


def amalgamation():
    with Tree() as tree:
        check(tree.run("amalgamate.py")[0] == 0, "the small tree amalgamates")
        text = tree.read("ruvector.h")
        check(text.startswith("/* GENERATED from src/ruvector.h"), "the first line says generated")
        check("Version 0.1.0, parts sha256 " in text.split("\n")[1], "version and hash")
        check(text.count("rv__flat_one(void)") == 1, "a part is expanded once")
        check('#include "' not in text, "no quoted include is left")
        check(text.count("/* ==== src/flat.c =") == 1, "seams are marked")
        check('#include "ruvector.h"' in tree.read("ruvector_pg.c"), "the pg spine keeps the header")
        check(os.path.exists(tree.path("sql/ruvector--0.1.0.sql")), "the install script has the version")
        check(tree.run("amalgamate.py", "--check")[0] == 0, "fresh")
        with Tree() as other:
            other.run("amalgamate.py")
            check(other.read("ruvector.h") == text, "the same bytes in another place")
        tree.change("src/flat.c", "return 1;", "return 2;")
        status, output = tree.run("amalgamate.py", "--check")
        check(status == 1 and "make amalgamate" in output, "stale is found and the fix named")
        check(tree.read("ruvector.h") == text, "--check writes nothing")
        tree.run("amalgamate.py", "--line", "-o", tree.path("line"))
        check('#line 1 "src/flat.c"' in tree.read("line/ruvector.h"), "--line")
        tree.run("amalgamate.py")
        check("return 2;" in tree.read("ruvector.h"), "rewritten")
        check(tree.read("ruvector.h").split("\n")[1] != text.split("\n")[1], "the hash follows")

    for what, name, old, new, word in (
            ("missing file", "src/flat.c", '"flat.h"', '"flut.h"', "flut.h"),
            ("cycle", "src/base.h", "#include <stddef.h>", '#include "base.h"', "cycle"),
            ("tab", "src/flat.c", "    return", "\treturn", "tab"),
            ("carriage return", "src/flat.c", "{\n", "{\r\n", "carriage"),
            ("non-ASCII", "src/flat.c", "return 1", "return 1 /* \u00e9 */", "ASCII"),
            ("final newline", "src/flat.c", "#endif\n", "#endif", "newline"),
            ("line limit", "src/flat.c", "{\n", "{\n" * 1600, "lines"),
            ("no version", "src/base.h", "RV_VERSION_MINOR 1", "RV_VERSION_MIN 1", "RV_VERSION_MAJOR")):
        with Tree() as tree:
            tree.change(name, old, new)
            status, output = tree.run("amalgamate.py")
            check(status == 1 and word in output, "amalgamate refuses: %s" % what)
            check(not os.path.exists(tree.path("ruvector.h")), "and writes nothing: %s" % what)
    with Tree() as tree:
        tree.write("src/lost.c", "/* lost */\n")
        status, output = tree.run("amalgamate.py", "--check")
        check(status == 1 and "lost.c" in output, "amalgamate refuses: a part that no spine reaches")


def lint():
    with Tree() as tree:
        tree.run("amalgamate.py")
        status, output = tree.run("lint.py")
        check(status == 0, "the small tree passes lint: " + output)
    flat, body = "src/flat.c", "    return 1;\n"
    for what, name, old, new, word in (
            ("order of the spine", "src/base.c", '#include "base.h"', '#include "base.h"\n#include "flat.c"', "below"),
            ("feature includes feature", "src/hnsw.c", '#include "base.c"', '#include "base.c"\n#include "flat.c"',
             "features"),
            ("part outside the spine", flat, '#include "base.c"', '#include "other.c"', "not in src/ruvector.h"),
            ("conditional include", flat, '#include "base.c"', '#if 1\n#include "base.c"\n#endif', "condition"),
            ("system header", flat, '#include "base.c"', '#include "base.c"\n#include <math.h>', "system headers"),
            ("same static twice", "src/hnsw.c", "rv__hnsw_one", "rv__flat_one", "also defined"),
            ("private name", flat, "rv__flat_one", "flat_one", "rv__"),
            ("public name", flat, "RV__FN int rv__flat_one", "RV_API int flat_one", "rv_"),
            ("macro never undefined", flat, "RV__FN int", "#define RV__TWO 2\nRV__FN int", "RV__TWO"),
            ("poisoned name", flat, body, "    int near = 1;\n" + body, "near"),
            ("abort", flat, body, "    abort();\n" + body, "abort"),
            ("printf", flat, body, "    printf(\"\");\n" + body, "printf"),
            ("malloc", flat, body, "    malloc(1);\n" + body, "malloc"),
            ("restrict", flat, body, "    int *restrict x;\n" + body, "common subset"),
            ("designated initialiser", flat, body, "    struct a x = {.b = 1};\n" + body, "common subset"),
            ("pragma", flat, "RV__FN int", "#pragma once\nRV__FN int", "pragma"),
            ("long line", flat, body, "    return 1; /* " + "x" * 100 + " */\n", "columns"),
            ("long function", flat, body, "    f();\n" * 121 + body, "split"),
            ("note to self", flat, body, body.rstrip() + " /* TO" + "DO */\n", "note"),
            ("trailing blanks", flat, body, "    return 1; \n", "blanks"),
            ("misspelt option", flat, "RV__FN int", "#ifdef RV_NO_STDLIBB\n#endif\nRV__FN int", "RV_NO_STDLIBB"),
            ("version", "ruvector.control", "0.1.0", "0.2.0", "default_version")):
        with Tree() as tree:
            tree.run("amalgamate.py")
            tree.change(name, old, new)
            status, output = tree.run("lint.py")
            check(status == 1 and word in output, "lint finds: %s: %s" % (what, output))
    for what, name, text, word in (
            ("stray prose", "docs/PLAN.md", "# Plan\n", "prose"),
            ("a test includes a part", "tests/test_x.c", '#include "../src/flat.c"\n', "white_"),
            ("long example", "examples/x.c", "/* x */\n" * 90, "example"),
            ("misspelt option of a test", "tests/test_x.c", "#ifdef RV_THREDS\n#endif\n", "RV_THREDS"),
            ("misspelt flag", "Makefile", "A = -D" "RV_STATICC\n", "RV_STATICC"),
            ("C symbol without SQL", "src/pg/x.c", "PG_FUNCTION_INFO_V1(rvpg_x);\n", "no SQL part"),
            ("SQL symbol without C", "src/pg/x.sql", "CREATE FUNCTION f() RETURNS int AS 'MODULE_PATHNAME', "
             "'rvpg_y' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;\n", "no PG_FUNCTION"),
            ("SQL function without volatility", "src/pg/x.sql", "CREATE FUNCTION f() RETURNS int AS "
             "'MODULE_PATHNAME', 'rvpg_y' LANGUAGE C STRICT PARALLEL SAFE;\n", "IMMUTABLE")):
        with Tree() as tree:
            tree.run("amalgamate.py")
            tree.write(name, text)
            status, output = tree.run("lint.py")
            check(status == 1 and word in output, "lint finds: %s: %s" % (what, output))


def new_module():
    with Tree() as tree:
        tree.run("amalgamate.py")
        status, output = tree.run("new_module.py", "sums", "--fuzz")
        check(status == 0, "new_module: " + output)
        status, output = tree.run("lint.py")
        check(status == 0, "a new module passes lint: " + output)
        check(tree.run("amalgamate.py", "--check")[0] == 0, "a new module is fresh")
        check("rv_sums_sum_f32" in tree.read("ruvector.h"), "a new module is in the header")
        check("src/pg/sums.sql" in tree.read("sql/ruvector--0.1.0.sql"), "a new module is in the script")
        check("- sums:" in tree.read("CHANGELOG.md"), "a new module is in the changelog")
        before = tree.read("src/ruvector.h")
        check(tree.run("new_module.py", "sums")[0] == 1, "a module is not created twice")
        check(tree.run("new_module.py", "Bad-Name")[0] == 1, "a bad stem is refused")
        check(tree.run("new_module.py", "ok", "--chapter", "nowhere")[0] == 1, "an unknown chapter is refused")
        check(tree.read("src/ruvector.h") == before, "a refusal changes nothing")
        check(not os.path.exists(tree.path("src/ok.h")), "a refusal creates nothing")
        shutil.copy(os.path.join(ROOT, "tests/rv_test.h"), tree.path("tests/rv_test.h"))
        program = tree.path("program")
        for source in ("examples/sums.c", "src/sums.c"):
            done = subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-I.", "-Isrc", "-c", source,
                                   "-o", program], cwd=tree.root)
            check(done.returncode == 0, "a new module compiles: %s" % source)


amalgamation()
lint()
new_module()
print("tools: %d passed, %d failed" % tuple(COUNT))
sys.exit(1 if COUNT[1] else 0)
