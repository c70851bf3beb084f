#!/usr/bin/env python3
"""House rules that can be read off the text. Prints every breach with its mending; exit 1 if any.

The order of the spine is the layering law; this file holds no list of parts.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COLUMNS, TOOL_COLUMNS, PART_LINES, FUNCTION_LINES, EXAMPLE_LINES = 100, 120, 1500, 120, 80
PUBLIC_LINES, WHOLE_LINES = 6000, 65000
OPTIONS = set("""RV_STATIC RV_API RV_NO_SIMD RV_NO_STDLIB RV_THREADS RV_ASSERT RV_EXPERIMENTAL RV_VERSION_MAJOR
    RV_VERSION_MINOR RV_VERSION_PATCH RV_TEST_SCALE RV_TEST_WHITE RV_TEST_H RV_BENCH_H""".split())
PROSE = {"README.md", "CHANGELOG.md"}
SYSTEM_INCLUDES = {"src/base.h", "src/base.c", "src/simd.c", "src/pg/compat.h"}
HEAP = {"malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc"}
CALLS = set("""abort exit _exit atexit assert printf fprintf sprintf snprintf vprintf vsnprintf puts putchar fopen
    fread fwrite fclose getenv setlocale system perror rand srand time clock qsort bsearch signal longjmp
    setjmp alloca strtod atof atoi""".split())
TEXT = (".c", ".h", ".inl", ".cc", ".cpp", ".sql", ".py", ".sh", ".mjs", ".mk", ".ld")
DEFINITION = re.compile(r"^(?:RV__ISA\s+|RV__FN\s+|RV__INLINE\s+|RV_API\s+|static\s+|const\s+|inline\s+)+"
                        r"[\w\s*]*?\b(\w+)\s*(?:\(|\[|=|;)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

breaches = []


def breach(path, line, text):
    breaches.append("%s:%d: %s" % (path, line, text))


def files():
    """What git tracks or would track."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                           stdout=subprocess.PIPE).stdout.decode().split("\n")
    return sorted(name for name in set(names) if name and os.path.isfile(os.path.join(ROOT, name)))


def strip(text):
    """The code without comments and the insides of literals; line numbers stay."""
    def blank(match):
        token = match.group(0)
        if token[0] in "\"'":
            return token[0] + token[-1]
        return " " + "\n" * token.count("\n")
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])+'"
    return re.sub(pattern, blank, text, flags=re.S)


def check_text(path, text):
    """Bytes and columns, for everything edited by hand."""
    for number, line in enumerate(text.split("\n"), 1):
        if "\t" in line and not path.endswith(".mk"):
            breach(path, number, "tab; indent with 4 spaces")
        if "\r" in line:
            breach(path, number, "carriage return; save with LF line ends")
        if not line.isascii():
            breach(path, number, "not ASCII")
        if line != line.rstrip():
            breach(path, number, "blanks at the end of the line")
        limit = TOOL_COLUMNS if path.endswith((".py", ".sh")) else COLUMNS
        if len(line) > limit and "golden/" not in path:
            breach(path, number, "%d columns; wrap at %d" % (len(line), limit))
        if re.search(r"\b(TODO|FIXME|XXX)\b", line) and path != "tools/lint.py":
            breach(path, number, "a note to self; do it or open an issue")
    if text and not text.endswith("\n"):
        breach(path, text.count("\n") + 1, "no newline at the end")


def poison():
    """Names that other people's headers define as macros; one list, which the compiler also sees."""
    try:
        with open(os.path.join(ROOT, "tests/config/poison.h"), encoding="ascii") as file:
            names = set(re.findall(r"^#define (\w+)", file.read(), re.M)) - {"POISON", "POISON_H"}
    except OSError:
        return None
    return re.compile(r"\b(%s)\b" % "|".join(sorted(names)))


def check_language(path, text, code, poisoned):
    """Calls and constructs that shipped code must not use."""
    continued = False
    for number, line in enumerate(code.split("\n"), 1):
        for match in re.finditer(r"(?<![\w.>])(\w+)\s*\(", line):
            name = match.group(1)
            if name in CALLS:
                breach(path, number, "%s() is forbidden; return a status" % name)
            if name in HEAP and path != "src/base.c":
                breach(path, number, "%s() is forbidden; use the allocator of the context" % name)
        directive = line.lstrip().startswith("#") or continued
        continued = directive and line.endswith("\\")
        taken = poisoned and not directive and poisoned.search(line)
        if taken:
            breach(path, number, "%s is a macro of other people's headers (tests/config/poison.h); choose "
                   "another name" % taken.group(1))
        if re.search(r"\brestrict\b|\b_Generic\b|[{,]\s*\.\w+\s*=[^=]|\)\s*\{\s*[^;{}]*\}\s*[,)]", line):
            breach(path, number, "not in the common subset of C99 and C++11 (restrict, _Generic, "
                   "designated or compound initialiser)")
        if re.match(r"\s*#\s*pragma\b", line):
            breach(path, number, "no pragmas; use attributes on the function")
        include = INCLUDE.match(line)
        if include and include.group(1) == "<" and path not in SYSTEM_INCLUDES:
            breach(path, number, "system headers belong to base.h, base.c, simd.c and pg/compat.h")
    start, name = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        if line == "{":
            start = number
        elif re.match(r"^\w[^;]*\)\s*\{$", line):
            breach(path, number, "the brace of a function stands on its own line")
            start = number
        elif line == "}" and start:
            if number - start - 1 > FUNCTION_LINES:
                breach(path, start, "function of %d lines; split it, the limit is %d"
                       % (number - start - 1, FUNCTION_LINES))
            start = 0


def check_options(path, code):
    """A misspelt option tests nothing: every RV_ name in a condition must be known."""
    own = set(re.findall(r"^\s*#\s*define\s+(RV_\w+)", code, re.M)) - OPTIONS
    if path.startswith("src/"):
        own = set()
    guard = "RV_%s_" % re.sub(r"\W", "_", os.path.basename(path).rsplit(".", 1)[0]).upper()
    for number, line in enumerate(code.split("\n"), 1):
        if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line):
            names = re.findall(r"\bRV_[A-Z]\w*", line)
        else:
            names = re.findall(r"-D\s*(RV_\w+)", line)
        for name in names:
            if name not in OPTIONS | own and not name.startswith("RV__") and not name.startswith(guard):
                breach(path, number, "%s is not an option; known: tools/lint.py OPTIONS" % name)


def spine_parts(spine):
    """Parts in the order of the spine, each with the chapter it stands in."""
    parts, chapter = [], ""
    with open(os.path.join(ROOT, spine), encoding="ascii") as file:
        for line in file:
            mark = re.match(r"(?:/\*|--) ([a-z ]+?)(?: \*/)?$", line)
            include = INCLUDE.match(line)
            if mark:
                chapter = mark.group(1)
            if include and include.group(1) == '"' and include.group(2) != "ruvector.h":
                parts.append(("src/" + include.group(2), chapter))
    return parts


def resolve(path, name):
    for folder in (os.path.dirname(path), "src"):
        candidate = os.path.normpath(os.path.join(folder, name))
        if os.path.isfile(os.path.join(ROOT, candidate)):
            return candidate
    return os.path.normpath(os.path.join("src", name))


def check_layers(sources):
    for spine in ("src/ruvector.h", "src/ruvector_pg.c", "src/ruvector.sql"):
        if spine not in sources:
            breach(spine, 1, "the spine is missing")
            continue
        parts = spine_parts(spine)
        order = {part: i for i, (part, _) in enumerate(parts)}
        chapter = dict(parts)
        for part, _ in parts:
            depth = 0
            for number, line in enumerate(sources.get(part, "").split("\n"), 1):
                if re.match(r"\s*#\s*if", line):
                    depth += 1
                elif re.match(r"\s*#\s*endif", line):
                    depth -= 1
                include = INCLUDE.match(line)
                if not include or include.group(1) == "<" or include.group(2).endswith(".inl"):
                    continue
                if include.group(2) == "ruvector.h":
                    if "/pg/" not in part:
                        breach(part, number, "a part includes parts, not the spine")
                    continue
                other = resolve(part, include.group(2))
                if depth > 1:
                    breach(part, number, "include inside a condition; it is expanded once, for all")
                if other not in order:
                    breach(part, number, "%s is not in %s" % (other, spine))
                elif order[other] >= order[part]:
                    breach(part, number, "%s stands below %s in the spine; a part includes only parts "
                           "listed before it" % (other, part))
                elif (stem(other) != stem(part) and "features" in chapter[other]
                      and "features" in chapter[part] and other.endswith(".c")):
                    breach(part, number, "features do not include each other (%s); move what they "
                           "share to a lower chapter" % other)


def stem(path):
    return os.path.basename(path).rsplit(".", 1)[0].split("_")[0]


def check_names(sources):
    """Names are unique over src/, because it becomes one file."""
    owner, macros, undefined = {}, {}, set()
    codes = {path: strip(text) for path, text in sources.items()}
    for path, code in codes.items():
        undefined |= set(re.findall(r"^\s*#\s*undef\s+(RV__\w+)", code, re.M))
        if path.endswith(".inl"):
            continue
        position = 0
        for number, line in enumerate(code.split("\n"), 1):
            rest, position = code[position:position + 2000], position + len(line) + 1
            define = re.match(r"\s*#\s*define\s+(RV__\w+)", line)
            if define:
                first = macros.setdefault(define.group(1), (path, number))
                if first[0] != path:
                    breach(path, number, "%s is also defined in %s" % (define.group(1), first[0]))
            match = DEFINITION.match(line)
            if not match or re.match(r"[^;{=]*;", rest) and "(" in line:
                continue  # no definition, or a declaration
            name = match.group(1)
            if name == "RV__F":
                continue
            first = owner.setdefault(name, (path, number))
            if first[0] != path:
                breach(path, number, "%s is also defined in %s; prefix it with the stem" % (name, first[0]))
            private = not line.startswith("RV_API")
            if path.startswith("src/pg/"):
                continue
            if private and not name.startswith("rv__"):
                breach(path, number, "private name %s does not start with rv__" % name)
            if not private and not re.match(r"rv_[a-z]", name):
                breach(path, number, "public name %s does not start with rv_" % name)
    for name, (path, number) in sorted(macros.items()):
        if name not in undefined:
            users = [other for other, code in codes.items()
                     if other != path and not other.endswith(".inl") and re.search(r"\b%s\b" % name, code)]
            breach(path, number, "%s is never #undef-ined; do it at the end of %s" % (name, "the last of %s in the "
                   "spine" % ", ".join([path] + users) if users else path))


def check_sql(sources):
    """SQL and C name the same functions; every function says how it behaves."""
    c_names, sql_names = {}, {}
    for path, text in sources.items():
        if path.startswith("src/pg/") and path.endswith(".c"):
            for name in re.findall(r"^PG_FUNCTION_INFO_V1\((\w+)\)", text, re.M):
                if name in c_names:
                    breach(path, 1, "PG_FUNCTION_INFO_V1(%s) also stands in %s" % (name, c_names[name]))
                c_names[name] = path
        if not path.endswith(".sql"):
            continue
        for statement in re.sub(r"--[^\n]*", "", text).split(";"):
            if not re.match(r"\s*CREATE\s+(OR\s+REPLACE\s+)?FUNCTION\b", statement, re.I):
                continue
            what = " ".join(statement.split())[:60]
            symbol = re.search(r"'MODULE_PATHNAME'\s*,\s*'(\w+)'", statement)
            if symbol:
                sql_names[symbol.group(1)] = path
            elif re.search(r"'MODULE_PATHNAME'", statement):
                breach(path, 1, "%s...: name the C symbol" % what)
            for pattern, words in ((r"\b(IMMUTABLE|STABLE|VOLATILE)\b", "IMMUTABLE, STABLE or VOLATILE"),
                                   (r"\b(STRICT|CALLED\s+ON\s+NULL\s+INPUT)\b", "STRICT or CALLED ON NULL INPUT"),
                                   (r"\bPARALLEL\s+(SAFE|RESTRICTED|UNSAFE)\b", "PARALLEL SAFE or another")):
                if not re.search(pattern, statement, re.I):
                    breach(path, 1, "%s...: state %s" % (what, words))
    for name, path in c_names.items():
        if name not in sql_names:
            breach(path, 1, "PG_FUNCTION_INFO_V1(%s): no SQL part names it" % name)
    for name, path in sql_names.items():
        if name not in c_names:
            breach(path, 1, "'%s': no PG_FUNCTION_INFO_V1 for it" % name)


def check_version(sources, control):
    """The version stands in base.h, in rv_version() and in the control file."""
    text = sources.get("src/base.h", "")
    parts = [re.search(r"#define RV_VERSION_%s (\d+)" % word, text) for word in ("MAJOR", "MINOR", "PATCH")]
    version = ".".join(part.group(1) for part in parts if part)
    if '"%s"' % version not in sources.get("src/base.c", ""):
        breach("src/base.c", 1, "rv_version() does not return the version of base.h, %s" % version)
    if "default_version = '%s'" % version not in control:
        breach("ruvector.control", 1, "default_version is not the version of base.h, %s" % version)


def check_users(path, text, lines):
    """tests and examples see the library as its users do; a bench may time private kernels."""
    white = os.path.basename(path).startswith(("white_", "bench_"))
    for number, line in enumerate(text.split("\n"), 1):
        include = INCLUDE.match(line)
        if include and re.search(r"(^|/)src/", include.group(2)) and not white:
            breach(path, number, "only tests/white_*.c include parts; include ruvector.h")
    # The demo is a program in its own right.
    if re.match(r"examples/(?!demo\.)[^/]+\.(c|cc|cpp)$", path) and lines > EXAMPLE_LINES:
        breach(path, lines, "example of %d lines; the limit is %d" % (lines, EXAMPLE_LINES))


def main():
    names, sources, poisoned = files(), {}, poison()
    generated = {"ruvector.h", "ruvector_pg.c"} | {name for name in names if name.startswith("sql/")}
    for name in names:
        if name.endswith(".md") and name not in PROSE:
            breach(name, 1, "stray prose; it belongs into README, CHANGELOG or the header")
        special = os.path.basename(name) in ("Makefile", "run", ".gitignore", ".gitattributes")
        if name in generated or not (name.endswith(TEXT) or special):
            continue
        with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace", newline="") as file:
            text = file.read()
        if os.path.basename(name) == "Makefile":
            text = re.sub(r"^\t", "    ", text, flags=re.M)
        check_text(name, text)
        is_c = name.endswith((".c", ".h", ".inl", ".cc", ".cpp"))
        code = strip(text) if is_c else text
        lines = text.count("\n")
        if name != "tools/lint.py":
            check_options(name, code)
        if name.startswith("src/"):
            sources[name] = text
            if lines > PART_LINES:
                breach(name, lines, "part of %d lines; split it, the limit is %d" % (lines, PART_LINES))
            if is_c:
                check_language(name, text, code, poisoned)
        elif is_c and name.split("/")[0] in ("tests", "bench", "examples"):
            check_users(name, text, lines)
    check_layers(sources)
    check_names({path: text for path, text in sources.items() if not path.endswith(".sql")})
    check_sql(sources)
    with open(os.path.join(ROOT, "ruvector.control"), encoding="ascii") as file:
        check_version(sources, file.read())
    try:
        with open(os.path.join(ROOT, "ruvector.h"), encoding="ascii") as file:
            text = file.read()
        public = re.split(r"^#if.*RUVECTOR_IMPLEMENTATION", text, flags=re.M)[0].count("\n")
        for part, count, limit in (("public section", public, PUBLIC_LINES), ("file", text.count("\n"), WHOLE_LINES)):
            if count > limit:
                breach("ruvector.h", count, "%s of %d lines; the budget is %d" % (part, count, limit))
    except OSError:
        breach("ruvector.h", 1, "missing; run `make amalgamate`")
    print("\n".join(breaches + ["lint: %d files, %d breaches" % (len(names), len(breaches))]))
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
