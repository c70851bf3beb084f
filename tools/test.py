#!/usr/bin/env python3
"""Runs the tests: the one table of configurations, and the steps that are not test programs.

    tools/test.py check              the short check
    tools/test.py all                everything; make test and the CI run this
    tools/test.py NAME ...           steps by name or prefix, for example: asan aarch64 clang
    tools/test.py list               the names
    tools/test.py NAME -t test_hnsw  only some test programs

Prints one line per step and closes with one line of counts. A step whose tools are missing is
skipped with the reason; with CI=true in the environment a skip counts as a failure. The build rules
stand in the Makefile; this file only calls it with the values of a configuration. Logs: build/log/.
"""
import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = "build"
LIMIT_S, LIMIT_MAKE_S = 900, 2400
LIMIT_COMPILE_S, LIMIT_COMPILE_MB = 90, 800  # 44 s alone, more where a core is shared
PASSED = re.compile(r"^[\w+.-]+: (\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)
FAULT = re.compile(r"error|failed|warning:|ERROR|Sanitizer|status [1-9-]")
SANITIZE = "-gline-tables-only -fno-omit-frame-pointer -fno-sanitize-recover=all"
QEMU_ARM = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none",
            "-semihosting-config", "enable=on,target=native", "-kernel"]
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
    "WINEPREFIX": os.path.join(ROOT, BUILD, "wine"), "WINEDEBUG": "-all",
}


# Started before the others, so that none of them is left running alone at the end.
LONG = ("asan-ubsan", "cortex-m4f", "aarch64", "gcc-c99-isas", "s390x", "coverage", "msan", "fuzz-flat", "wasm32",
        "windows")


class Step:
    """One line of the report. action(step) returns (passed, failed, skipped) or raises Skip/Failed."""
    def __init__(self, name, action, groups, needs=(), **values):
        self.name, self.action, self.groups, self.needs = name, action, groups, needs
        self.values = values
        self.log = []

    def __getattr__(self, name):
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name)

    def get(self, name, default):
        return self.values.get(name, default)

    def run(self, command, limit=LIMIT_S, check=True, **environment):
        """Runs a command, keeps its output in the log, and returns (status, output)."""
        start = time.time()
        try:
            done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, timeout=limit,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env=dict(os.environ, **ENVIRONMENT, **environment))
            status, output = done.returncode, done.stdout.decode("utf-8", "replace")
        except subprocess.TimeoutExpired as error:
            status, output = 124, (error.stdout or b"").decode("utf-8", "replace")
            output += "\nno end after %d s\n" % limit
        output = output.replace("\r\n", "\n")
        words = ["%s=%s" % pair for pair in environment.items()] + list(command)
        self.log.append("$ %s  # %.1f s" % (" ".join(words), time.time() - start))
        self.log.append(output)
        if check and status:
            raise Failed("%s ended with status %d" % (command[0], status))
        return status, output


class Skip(Exception):
    pass


class Failed(Exception):
    pass


# ---- test programs of one configuration ----

def on_target(source, target):
    """A test that cannot run on a target says so in its first lines: `not on: cortex-m4f (why)`."""
    return not head_says(source, r"not on:[^\n]*\b%s\b" % re.escape(target))


def head_says(source, words):
    with open(os.path.join(ROOT, source), encoding="ascii", errors="replace") as file:
        return re.search(words, file.read(1000))


def programs(step, prefix):
    target, chosen = step.get("target", "native"), step.get("chosen", None)
    stems = sorted(os.path.basename(path)[:-2] for path in glob.glob(ROOT + "/tests/%s*.c" % prefix))
    return [stem for stem in stems if on_target("tests/%s.c" % stem, target)
            and (not chosen or stem in chosen) and stem != "fuzz_main"]


# Values of a configuration that the Makefile defaults otherwise or not at all.
DEFAULTS = {"language": "c", "standard": "-std=c99", "optimize": "-O2", "threads": "-DRV_THREADS -pthread",
            "link": "", "exe": "", "root": "."}


def make(step, goal, **more):
    """Builds a goal of the Makefile with the values of the configuration."""
    values = {name.upper(): step.get(name, default) for name, default in DEFAULTS.items()}
    extra = "-Werror -DRV_TEST_SCALE=%d %s" % (step.get("scale", 1), step.get("flags", ""))
    values.update(CONFIG=step.name, CC=step.cc, BUILD=BUILD, EXTRA=extra, **more)
    step.run(["make", "-s", "--no-print-directory", goal] + ["%s=%s" % pair for pair in sorted(values.items())],
             limit=LIMIT_MAKE_S)


def run_program(step, path, arguments=(), isa=""):
    """Runs a test program, on the named instruction set if any; what it prints last is its count."""
    command = step.get("runner", []) + [path] + list(arguments)
    status, output = step.run(command, check=False, **({"RV_TEST_ISA": isa} if isa else {}))
    found = PASSED.findall(output)
    if not found:
        step.log.append("%s: no line of counts, status %d" % (path, status))
        return 0, 1, 0
    passed, failed, skipped = (int(text or 0) for text in found[-1])
    # Emulators of bare machines and wasm may lose the status, so the counts decide; both must be good.
    if status and not failed:
        step.log.append("%s: status %d although nothing failed" % (path, status))
        failed += 1
    return passed, failed, skipped


def probe(step):
    """Skips a target for which not even an empty program can be built and run."""
    if not step.get("probe", False):
        return
    folder = os.path.join(BUILD, step.name)
    os.makedirs(os.path.join(ROOT, folder), exist_ok=True)
    source, program = os.path.join(folder, "probe.c"), os.path.join(folder, "probe" + step.get("exe", ""))
    with open(os.path.join(ROOT, source), "w") as file:
        file.write("#include <stdio.h>\nint main(void) { printf(\"probe: 1 passed, 0 failed\\n\"); return 0; }\n")
    language = ["-x", step.get("language", "c")]
    command = [step.cc] + step.get("flags", "").split() + language + [source, "-x", "none", "-o", program]
    if step.run(command + step.get("link", "").split(), check=False)[0]:
        raise Skip("cannot build for it; is everything of tools/setup.sh --list installed?")
    if run_program(step, program)[0] != 1:
        raise Skip("cannot run what was built for it")


def unit(step):
    """Builds the library once and runs the test programs, once per instruction set."""
    probe(step)
    counts = [0, 0, 0]
    if step.get("root", ".") != ".":
        step.run([sys.executable, "tools/amalgamate.py", "--line", "-o", step.root])
    tests, whites = programs(step, "test_"), programs(step, "white_")
    tests = [stem for stem in tests if not stem.startswith(step.get("without", ()))]
    whites = [stem for stem in whites if stem.startswith(step.get("whites", WHITES))]
    make(step, "tests", TESTS=" ".join(tests), WHITES=" ".join(whites))
    # White-box tests see one part and no dispatch.
    runs = [(stem, "") for stem in whites] + [(stem, isa) for isa in step.get("isas", ("",)) for stem in tests]
    for stem, isa in runs:
        program = "%s/%s/%s%s" % (BUILD, step.name, stem, step.get("exe", ""))
        for i, n in enumerate(run_program(step, program, isa=isa)):
            counts[i] += n
    for extra in step.get("also", ()):
        for i, n in enumerate(extra(step)):
            counts[i] += n
    return tuple(counts)


def replay(step):
    """Feeds the committed corpora to the fuzz targets, without a fuzzer."""
    stems = programs(step, "fuzz_")
    make(step, "replays", REPLAYS=" ".join(stem.replace("fuzz_", "replay_") for stem in stems))
    passed = failed = 0
    for stem in stems:
        corpus = sorted(glob.glob(ROOT + "/tests/corpus/%s/*" % stem[5:]))
        program = "%s/%s/%s" % (BUILD, step.name, stem.replace("fuzz_", "replay_"))
        status, _ = step.run(step.get("runner", []) + [program] + corpus, check=False)
        passed, failed = passed + (status == 0), failed + (status != 0)
    return passed, failed, 0


def examples(step):
    names = sorted(os.path.basename(path)[:-2] for path in glob.glob(ROOT + "/examples/*.c")
                   if on_target(os.path.relpath(path, ROOT), step.get("target", "native")))
    make(step, "examples", EXAMPLES=" ".join("example_" + name for name in names))
    passed = failed = 0
    for name in names:
        status, _ = step.run(["%s/%s/example_%s" % (BUILD, step.name, name)], check=False, limit=120)
        passed, failed = passed + (status == 0), failed + (status != 0)
    for source in sorted(glob.glob(ROOT + "/examples/*.cpp") + glob.glob(ROOT + "/examples/*.cc")):
        program = "%s/%s/example_%s" % (BUILD, step.name, os.path.basename(source).replace(".", "_"))
        command = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-O2", "-DRV_THREADS", "-pthread", "-I.",
                   "-I%s/%s/declare" % (BUILD, step.name), source, "%s/%s/ruvector.o" % (BUILD, step.name)]
        command[8:8] = ["-I%s/%s/declare" % (BUILD, step.name)]
        status, _ = step.run(command + ["-o", program, "-lm"], check=False)
        if status == 0:
            status, _ = step.run([program], check=False, limit=120)
        passed, failed = passed + (status == 0), failed + (status != 0)
    return passed, failed, 0


def target_examples(step):
    """Examples that say `also on: TARGET` in their first lines run there, too."""
    names = [os.path.basename(path)[:-2] for path in sorted(glob.glob(ROOT + "/examples/*.c"))
             if head_says(path, r"also on:[^\n]*\b%s\b" % re.escape(step.target))]
    passed = failed = 0
    for name in names:
        make(step, "examples", EXAMPLES="example_" + name)
        program = "%s/%s/example_%s%s" % (BUILD, step.name, name, step.get("exe", ""))
        status, _ = step.run(step.get("runner", []) + [program], check=False, limit=120)
        passed, failed = passed + (status == 0), failed + (status != 0)
    return passed, failed, 0


# Symbols an object of the library may leave to the C library. No abort, exit, printf, assert.
ALLOWED = set("""free realloc malloc calloc posix_memalign madvise memcpy memmove memset memcmp memchr strlen strcmp
    pthread_create pthread_join sysconf syscall
    sqrt sqrtf floor floorf ceil ceilf fabs fabsf exp expf log logf log2 log2f log1p log1pf expm1 pow powf sin sinf
    cos cosf tan atan atan2 asin acos sinh cosh tanh tanhf asinh acosh acoshf atanh atanhf erf erff round roundf
    rint rintf nearbyint nearbyintf trunc truncf fma fmaf ldexp ldexpf frexp frexpf lround lrint cbrt hypot
    _GLOBAL_OFFSET_TABLE_ __stack_chk_fail""".split())


def symbols(step):
    """What the object exports, what it leaves undefined, and what it can write to."""
    target = "%s/%s/ruvector.o" % (BUILD, step.name)
    _, table = step.run(["nm", "-g", target])
    problems = []
    for line in table.splitlines():
        kind, name = line.split()[-2:]
        if kind == "U" and name not in ALLOWED:
            problems.append("undefined symbol %s is not on the list in tools/test.py" % name)
        elif kind != "U" and not re.match(r"rv_[a-z]", name):
            problems.append("exported symbol %s does not start with rv_" % name)
    _, table = step.run(["objdump", "-t", target])
    writable = re.findall(r"^\S+ .{7} (?:\.data|\.bss|\.tbss|\.tdata|COMMON)(?:\.(?!rel\.ro)\S+)?\s+\S+\s+(\S+)$",
                          table, re.M)
    writable = [name for name in writable if not name.startswith(".")]
    if len(writable) > 1:
        problems.append("writable data beside the dispatch pointer: %s" % " ".join(writable))
    step.log.extend("symbols: " + problem for problem in problems)
    return int(not problems), int(bool(problems)), 0


# ---- steps that are not configurations ----

def script(step):
    status, _ = step.run([sys.executable] + step.arguments, check=False)
    return int(status == 0), int(status != 0), 0


def tools(step):
    """The tools that guard the house."""
    return run_program(step, sys.executable, ["tests/test_tools.py"])


def warnings(language="c"):
    """The warning set, which stands in the Makefile."""
    done = subprocess.run(["make", "-s", "print-warnings", "LANGUAGE=" + language], cwd=ROOT, check=True,
                          stdout=subprocess.PIPE)
    return done.stdout.decode().split() + ["-Werror"]


def parts(step):
    """Every part compiles alone, because it includes exactly what it uses."""
    passed, failed, strict = 0, 0, warnings()
    for path in sorted(glob.glob(ROOT + "/src/*.h") + glob.glob(ROOT + "/src/*.c")):
        name = os.path.relpath(path, ROOT)
        if os.path.basename(name).startswith("ruvector"):
            continue
        command = ["cc", "-std=c99", "-fsyntax-only"] + strict + ["-Isrc", "-x", "c", name]
        status, _ = step.run(command, check=False)
        passed, failed = passed + (status == 0), failed + (status != 0)
    return passed, failed, 0


# tests/config: name, compiler, sources, flags, in the short check or not. At -O0, each holds the
# implementation, and compiling that is what it costs.
C99, CXX = ["cc", "-std=c99"], ["c++", "-std=c++11"]
OPTIONS = (
    ("twice", C99, ["twice.c"], [], True),
    ("two_units", C99, ["unit_main.c", "unit_impl.c"], [], False),
    ("two_static", C99, ["static_main.c", "static_other.c"], [], True),
    ("cxx_unit", CXX, ["unit_main.cc", "unit_impl.c"], [], True),
    ("poison", C99, ["poison.c"], [], True),
    ("poison_cxx", CXX, ["poison.c"], ["-x", "c++"], False),
    ("RV_STATIC", C99, ["option.c"], ["-DRV_STATIC"], False),
    ("RV_API", C99, ["option.c"], ["-DRV_API=__attribute__((visibility(\"hidden\")))", "-Wno-unused"], False),
    ("RV_NO_SIMD", C99, ["option.c"], ["-DRV_NO_SIMD"], True),
    ("RV_NO_STDLIB", C99, ["option.c"], ["-DRV_NO_STDLIB"], True),
    ("RV_THREADS", C99, ["option.c"], ["-DRV_THREADS", "-pthread"], False),
    ("RV_ASSERT", C99, ["option.c"], ["-DTEST_ASSERT"], False),
)


def options(step):
    passed, failed, strict = 0, 0, (warnings(), warnings("c++"))
    folder = "%s/config" % BUILD
    os.makedirs(os.path.join(ROOT, folder), exist_ok=True)
    for name, compiler, sources, flags, quick in OPTIONS:
        if step.get("quick", False) and not quick:
            continue
        program = "%s/%s" % (folder, name)
        objects, status = [], 0
        for source in sources:
            objects.append("%s-%s.o" % (program, source))
            language = compiler if not source.endswith(".c") or "c++" in flags else C99
            command = language + ["-O0"] + strict[language is CXX] + flags + ["-I.", "-Itests/config"]
            command += ["-c", "tests/config/" + source, "-o", objects[-1]]
            status = status or step.run(command, check=False)[0]
        status = status or step.run(compiler + objects + ["-o", program, "-lm", "-pthread"], check=False)[0]
        status = status or step.run([program], check=False, limit=60)[0]
        if name == "RV_NO_STDLIB" and not status:
            _, table = step.run(["nm", "-u", objects[0]])
            heap = re.findall(r"\b(?:malloc|calloc|realloc|free|posix_memalign|madvise)\b", table)
            if heap:
                step.log.append("RV_NO_STDLIB: refers to %s" % " ".join(sorted(set(heap))))
                status = 1
        if status:
            step.log.append("config %s failed" % name)
        passed, failed = passed + (status == 0), failed + (status != 0)
    return passed, failed, 0


def macros(step):
    """After the include only RV_* and RUVECTOR_H are left defined by us; no RV__*."""
    passed = failed = 0
    for flags in ([], ["-DRUVECTOR_IMPLEMENTATION"], ["-DRUVECTOR_IMPLEMENTATION", "-DRV_STATIC"],
                  ["-DRUVECTOR_IMPLEMENTATION", "-DRV_NO_SIMD", "-DRV_NO_STDLIB"],
                  ["-DRUVECTOR_IMPLEMENTATION", "-DRV_THREADS"]):
        _, text = step.run(["cc", "-std=c99", "-E", "-dD"] + flags + ["-x", "c", "ruvector.h"])
        step.log.pop()
        ours, left = False, set()
        for line in text.splitlines():
            marker = re.match(r'# \d+ "([^"]*)"', line)
            define = re.match(r"#(define|undef) (\w+)", line)
            if marker:
                ours = os.path.basename(marker.group(1)) == "ruvector.h"
            elif define and ours:
                (left.add if define.group(1) == "define" else left.discard)(define.group(2))
        bad = sorted(name for name in left if not re.match(r"(RV_[A-Z0-9]|RUVECTOR_)", name))
        if bad:
            step.log.append("macros failed: left defined with %s: %s" % (" ".join(flags) or "no flags", " ".join(bad)))
        passed, failed = passed + (not bad), failed + bool(bad)
    return passed, failed, 0


# What the examples of the module manuals take for granted.
PRELUDE = """#include "ruvector.h"
#include <stdlib.h>
#include <string.h>
extern rv_ctx *ctx;
extern float keys[], values[], weights[], params[];
extern float vector[], vectors[], query[], queries[], out[];
extern rv_hit hit, hits[];
extern size_t n, k, n_hits, bytes;
extern void *image;
void example(void);
void example(void)
{
%s}
"""


def fenced(step):
    """The C examples of README.md and of the module manuals in src/*.h compile."""
    passed = failed = 0
    folder = "%s/manual" % BUILD
    os.makedirs(os.path.join(ROOT, folder), exist_ok=True)
    blocks = []
    if os.path.exists(os.path.join(ROOT, "README.md")):
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            blocks = [("README.md", language, block) for language, block in
                      re.findall(r"^```(c|cpp|c\+\+)\n(.*?)^```", file.read(), re.M | re.S)]
    for path in sorted(glob.glob(ROOT + "/src/*.h")):
        with open(path, encoding="ascii") as file:
            manual = re.search(r"/\* >>.*?\*/", file.read(), re.S)
        # An example is a paragraph indented by seven blanks that ends in a semicolon or brace.
        for block in re.findall(r"\n\n((?: {7}.*\n)+)", manual.group(0) + "\n" if manual else ""):
            if re.search(r"[;}]\s*(/\*.*)?$", block.strip()):
                blocks.append((os.path.relpath(path, ROOT), "c", block))
    for number, (source, language, block) in enumerate(blocks, 1):
        if "#include" not in block:
            block = PRELUDE % block
        block = re.sub(r"^#define RUVECTOR_IMPLEMENTATION.*\n", "", block, flags=re.M)
        name = "%s/%d.%s" % (folder, number, "c" if language == "c" else "cc")
        with open(os.path.join(ROOT, name), "w") as file:
            file.write(block)
        compiler = C99 if language == "c" else CXX
        status, _ = step.run(compiler + ["-Wall", "-Wextra", "-Wno-unused", "-Werror", "-fsyntax-only",
                                         "-I.", name], check=False)
        if status:
            step.log.append("example %d, from %s, failed" % (number, source))
        passed, failed = passed + (status == 0), failed + (status != 0)
    return passed, failed, 0


def coverage(step):
    for path in glob.glob("%s/%s/%s/*.gcda" % (ROOT, BUILD, step.name)):
        os.remove(path)  # counts of an earlier run
    counts = list(unit(step))
    status, _ = step.run([sys.executable, "tools/coverage.py", "%s/%s" % (BUILD, step.name)], check=False)
    counts[0 if status == 0 else 1] += 1
    return tuple(counts)


FUZZ_LOCK = threading.Lock()


def budget(step):
    """What compiling the library costs its users: seconds of processor and peak memory."""
    command = ["gcc", "-O2", "-DRUVECTOR_IMPLEMENTATION", "-x", "c", "-c", "ruvector.h", "-o", os.devnull]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = status
    seconds, megabytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024.0
    step.log.append("compile -O2: %.1f s, limit %d; %.0f MB, limit %d" % (seconds, LIMIT_COMPILE_S, megabytes,
                                                                         LIMIT_COMPILE_MB))
    good = status == 0 and seconds < LIMIT_COMPILE_S and megabytes < LIMIT_COMPILE_MB
    return int(good), int(not good), 0


def fuzz(step):
    stem = step.stem
    seconds = int(os.environ.get("FUZZ_SECONDS", "30"))
    with FUZZ_LOCK:  # all fuzzers share one object of the library
        step.run(["make", "-s", "fuzzer", "FOR=" + stem])
    status, _ = step.run(["make", "-s", "fuzz", "FOR=" + stem, "FUZZ_SECONDS=%d" % seconds, "FUZZ_SEED=1"],
                         limit=seconds + 600, check=False)
    return int(status == 0), int(status != 0), 0


# ---- the table ----

X86 = ("scalar", "avx2", "avx512")
# White-box tests hold what they test. The others take all kernels along, which is long to compile; they run where
# instruction sets are forced, where lines are counted and where the bytes are the other way round: with ALL_WHITES.
ALL_WHITES, FEW_WHITES = ("white_",), ("white_base", "white_simd")
WHITES = FEW_WHITES + ("white_ivf", "white_store")


def table():
    steps = []

    def add(name, action, groups, needs=(), **values):
        steps.append(Step(name, action, groups.split(), needs, **values))

    add("gcc-c99-O2", unit, "check", ["gcc"], cc="gcc", isas=("", "scalar"),
        also=(symbols, replay, examples))
    add("gcc-c99-isas", unit, "all", ["gcc"], cc="gcc", isas=X86, whites=ALL_WHITES, also=(symbols, replay, examples))
    add("lint", script, "check all", arguments=["tools/lint.py"])
    add("tools", tools, "check all", ["cc", "git"])
    add("parts", parts, "check all", ["cc"])
    add("options-quick", options, "check", ["cc", "c++"], quick=True)
    add("options", options, "all", ["cc", "c++"])
    add("macros", macros, "check all", ["cc"])
    add("budget", budget, "all", ["gcc"])
    add("manual", fenced, "check all", ["cc"])

    # Languages, compilers, levels. The library and every test compile as each of them; clang's C17 and C++17 are
    # those of msan and tsan below, gcc's C++17 that of fast-math.
    for family, standard, level, scale in (
            ("gcc", "c11", "-O0", 4), ("gcc", "c17", "-O3", 2), ("gcc", "c++11", "-O2", 4),
            ("gcc", "c++20", "-O1", 8), ("clang", "c99", "-O2", 2),
            ("clang", "c11", "-O3", 4), ("clang", "c++11", "-O0", 8), ("clang", "c++20", "-O2", 4)):
        language = "c++" if "++" in standard else "c"
        cc = {"gccc++": "g++", "clangc++": "clang++"}.get(family + language, family)
        add("%s-%s%s" % (family, standard, level), unit, "all", [cc], cc=cc, language=language,
            standard="-std=" + standard, optimize=level, scale=scale, whites=FEW_WHITES)
    add("fast-math", unit, "all", ["g++"], cc="g++", language="c++", standard="-std=c++17",
        optimize="-O2 -ffast-math", scale=2, isas=("", "scalar"), whites=FEW_WHITES)

    # Sanitizers, with #line so that reports name the parts.
    add("asan-ubsan", unit, "all", ["clang"], cc="clang", optimize="-O1", scale=4, root=BUILD + "/line", probe=True,
        flags="-fsanitize=address,undefined " + SANITIZE, isas=X86, also=(replay,))
    add("tsan", unit, "all", ["clang++"], cc="clang++", language="c++", standard="-std=c++17", optimize="-O1",
        scale=8, root=BUILD + "/line", probe=True, flags="-fsanitize=thread " + SANITIZE, whites=FEW_WHITES)
    add("msan", unit, "all", ["clang"], cc="clang", standard="-std=c17", optimize="-O1", scale=8, target="msan",
        root=BUILD + "/line", probe=True, flags="-fsanitize=memory " + SANITIZE, isas=("scalar", "avx2"))

    # Targets.
    add("i386", unit, "all", ["gcc"], cc="gcc", flags="-m32 -msse2 -mfpmath=sse", target="i386", scale=4, probe=True,
        isas=("", "scalar"))
    add("aarch64", unit, "all", ["aarch64-linux-gnu-gcc", "qemu-aarch64"], cc="aarch64-linux-gnu-gcc", link="-static",
        runner=["qemu-aarch64", "-cpu", "max"], target="aarch64", scale=8, probe=True,
        isas=("neon",))
    add("s390x", unit, "all", ["s390x-linux-gnu-gcc", "qemu-s390x"], cc="s390x-linux-gnu-gcc", link="-static",
        runner=["qemu-s390x"], target="s390x", scale=8, probe=True, whites=ALL_WHITES,
        # for the order of bytes, which these do not see; its emulator is the slowest
        without=("test_attn_", "test_gnn", "test_hyperbolic", "test_transport", "test_diffusion", "test_info",
                 "test_topology", "test_hnsw_query", "test_ivf_query", "test_loss"),
        flags="-fexcess-precision=fast")  # gcc's strict C mode computes floats in double there
    add("wasm32", unit, "all", ["clang", "wasm-ld", "node"], cc="clang", flags="--target=wasm32-wasi -msimd128",
        link="-Wl,-z,stack-size=1048576", threads="", exe=".wasm", target="wasm32", scale=4, probe=True,
        runner=["node", "--no-warnings", "tests/targets/wasi_run.mjs"], isas=("wasm",),
        also=(target_examples,))
    add("windows", unit, "all", ["x86_64-w64-mingw32-gcc", "wine"], cc="x86_64-w64-mingw32-gcc", threads="-DRV_THREADS",
        link="-static", exe=".exe", runner=["wine"], target="windows", scale=4, probe=True)
    add("cortex-m4f", unit, "all", ["arm-none-eabi-gcc", "qemu-system-arm"], cc="arm-none-eabi-gcc", threads="",
        flags="-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16",
        link="--specs=rdimon.specs -nostartfiles -T tests/targets/mps2.ld tests/targets/mps2_start.c",
        exe=".elf", runner=QEMU_ARM, target="cortex-m4f", scale=32, probe=True,
        also=(target_examples,))

    add("coverage", coverage, "all", ["gcc", "gcov"], cc="gcc", optimize="-O1", scale=2, root=BUILD + "/line",
        flags="--coverage -fprofile-update=atomic", isas=X86, whites=ALL_WHITES, also=(replay,))
    for path in sorted(glob.glob(ROOT + "/tests/fuzz_*.c")):
        stem = os.path.basename(path)[5:-2]
        if stem != "main":
            add("fuzz-" + stem, fuzz, "all", ["clang"], stem=stem)
    return sorted(steps, key=lambda step: LONG.index(step.name) if step.name in LONG else len(LONG))


# ---- the runner ----

def perform(step, lock, totals):
    start = time.time()
    missing = [tool for tool in step.needs if not shutil.which(tool)]
    note = ""
    try:
        if missing:
            raise Skip("no %s here" % ", ".join(missing))
        counts = step.action(step)
        word = "failed" if counts[1] else "ok"
    except Skip as reason:
        counts, word, note = (0, 0, 1), "skipped", str(reason)
    except Failed as reason:
        counts, word, note = (0, 1, 0), "failed", str(reason)
    log = os.path.join(ROOT, BUILD, "log", step.name + ".log")
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "w", encoding="utf-8") as file:
        file.write("\n".join(step.log) + "\n")
    with lock:
        print("%-8s %-16s %6d tests %7.1f s%s" % (word, step.name, counts[0], time.time() - start,
                                                note and "  " + note), flush=True)
        if counts[1]:
            lines = "\n".join(step.log).splitlines()
            bad = [line for line in lines if FAULT.search(line) and not line.startswith("$ ")
                   and not re.search(r" passed, 0 failed", line)]
            bad = list(dict.fromkeys(bad))[:20] or lines[-20:]
            print("\n".join("    " + line[:200] for line in bad))
            print("    log: %s" % os.path.relpath(log, ROOT), flush=True)
        elif counts[2] and not note:
            print("\n".join("    " + line for line in "\n".join(step.log).splitlines() if " skipped: " in line))
        for i, n in enumerate(counts):
            totals[i] += n


def main():
    parser = argparse.ArgumentParser(description="Runs the tests; see the top of this file.")
    parser.add_argument("names", nargs="*", default=["check"], help="check, all, list, or names of steps")
    parser.add_argument("-t", "--test", action="append", help="only this test program; may be repeated")
    parser.add_argument("-j", "--jobs", type=int, default=min(2, os.cpu_count() or 1))
    arguments = parser.parse_args()
    steps = table()
    if arguments.names == ["list"]:
        print("\n".join("%-16s %s" % (step.name, " ".join(step.groups)) for step in steps))
        return 0
    chosen = [step for step in steps if any(name in step.groups or step.name.startswith(name)
                                            for name in arguments.names)]
    unknown = [name for name in arguments.names if not any(name in s.groups or s.name.startswith(name) for s in steps)]
    if unknown:
        sys.exit("test: no step or group called %s; see tools/test.py list" % ", ".join(unknown))
    lock, totals = threading.Lock(), [0, 0, 0]
    if set(arguments.names) & {"check", "all"}:
        # Before anything else, because building refreshes the generated files.
        perform(Step("fresh", script, [], arguments=["tools/amalgamate.py", "--check"]), lock, totals)
    with concurrent.futures.ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        for step in chosen:
            step.values["chosen"] = arguments.test
            pool.submit(guarded, step, lock, totals)
    strict = os.environ.get("CI", "").lower() in ("true", "1")
    if totals[2] and strict:
        print("CI: nothing may be skipped")
    print("%d passed, %d failed%s" % (totals[0], totals[1], ", %d skipped" % totals[2] if totals[2] else ""))
    return 1 if totals[1] or (strict and totals[2]) else 0


def guarded(step, lock, totals):
    try:
        perform(step, lock, totals)
    except Exception as error:  # a fault of this runner must not pass for success
        with lock:
            print("failed   %-16s %s: %s" % (step.name, type(error).__name__, error), flush=True)
            totals[1] += 1


if __name__ == "__main__":
    sys.exit(main())
