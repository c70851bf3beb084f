#!/usr/bin/env python3
"""Expands the spines in src/ into the files that are shipped.

    tools/amalgamate.py                 write all outputs that changed
    tools/amalgamate.py --check         write nothing; exit 1 when an output is stale
    tools/amalgamate.py --line -o DIR   for debugging: with #line directives, under DIR

Each #include "file" of a spine is replaced by the text of the file at its first mention and dropped
at later mentions; files ending in .inl are expanded every time. Nothing else is rewritten. The same
sources give the same bytes on every machine.
"""
import argparse
import hashlib
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INCLUDE = re.compile(r'#[ \t]*include[ \t]+"([^"\n]+)"[ \t]*(?:/\*.*\*/|--.*)?$')
LINE_LIMIT = 1500
WIDTH = 100


class Problem(Exception):
    pass


def version():
    text = "".join(read(part) for part in ("src/ruvector.h", "src/base.h"))
    found = [re.search(r"#define RV_VERSION_%s[ \t]+(\d+)" % word, text)
             for word in ("MAJOR", "MINOR", "PATCH")]
    if not all(found):
        raise Problem("no RV_VERSION_MAJOR, _MINOR and _PATCH in src/ruvector.h or src/base.h; "
                      "define the three there")
    return ".".join(match.group(1) for match in found)


def spines():
    """spine -> output; the only place that names the three."""
    return (("src/ruvector.h", "ruvector.h"), ("src/ruvector_pg.c", "ruvector_pg.c"),
            ("src/ruvector.sql", "sql/ruvector--%s.sql" % version()))


def read(part):
    """The text of a part, or a Problem that says how to mend it."""
    try:
        with open(os.path.join(ROOT, part), "rb") as file:
            data = file.read()
    except OSError as error:
        raise Problem("%s: %s; create it or remove its include from the spine" % (part, error.strerror))
    for number, line in enumerate(data.split(b"\n"), 1):
        if b"\t" in line:
            raise Problem("%s:%d: tab; indent with 4 spaces" % (part, number))
        if b"\r" in line:
            raise Problem("%s:%d: carriage return; save with LF line ends" % (part, number))
        if any(byte > 126 for byte in line):
            raise Problem("%s:%d: non-ASCII byte; write it in ASCII" % (part, number))
    if data and not data.endswith(b"\n"):
        raise Problem("%s: no newline at the end; add one" % part)
    if data.count(b"\n") > LINE_LIMIT:
        raise Problem("%s: %d lines; split it, the limit is %d" % (part, data.count(b"\n"), LINE_LIMIT))
    return data.decode("ascii")


def resolve(name, part):
    """As the C preprocessor does with -Isrc: beside the including file first."""
    for folder in (os.path.dirname(part), "src"):
        path = os.path.normpath(os.path.join(folder, name)).replace(os.sep, "/")
        if os.path.isfile(os.path.join(ROOT, path)):
            return path
    raise Problem('%s: #include "%s": no such file beside it or in src/; create it, or correct the name'
                  % (part, name))


class Expansion:
    def __init__(self, spine, line_directives):
        self.spine, self.line_directives = spine, line_directives
        self.is_sql = spine.endswith(".sql")
        self.seen, self.stack, self.lines, self.texts = set(), [], [], []

    def banner(self, part, number, note=""):
        start, end = ("-- ==== ", "") if self.is_sql else ("/* ==== ", " */")
        text = start + part + note + " "
        self.lines.append(text + "=" * (WIDTH - len(text) - len(end)) + end)
        if self.line_directives and not self.is_sql:
            self.lines.append('#line %d "%s"' % (number, part))

    def expand(self, part):
        if part in self.stack:
            raise Problem("include cycle: %s; break it by moving what they share into a lower part"
                          % " -> ".join(self.stack[self.stack.index(part):] + [part]))
        text = read(part)
        if part not in self.seen:
            self.texts.append((part, text))
        self.seen.add(part)
        self.stack.append(part)
        if part != self.spine:
            self.banner(part, 1)
        for number, line in enumerate(text.splitlines(), 1):
            match = INCLUDE.match(line.strip())
            # The postgres spine keeps the shipped header as an include of its own.
            if not match or (match.group(1) == "ruvector.h" and self.spine != "src/ruvector.h"):
                self.lines.append(line)
                continue
            child = resolve(match.group(1), part)
            if child == self.spine or (child in self.seen and child not in self.stack
                                       and not child.endswith(".inl")):
                if self.line_directives:
                    self.lines.append("")  # keeps the count
                continue
            self.expand(child)
            if part != self.spine:
                self.banner(part, number + 1, ", continued")
            elif self.line_directives and not self.is_sql:
                self.lines.append('#line %d "%s"' % (number + 1, part))
        self.stack.pop()

    def output(self):
        self.expand(self.spine)
        digest = hashlib.sha256()
        for part, text in sorted(self.texts):
            digest.update(("%s\n%d\n%s" % (part, len(text), text)).encode("ascii"))
        start, end = ("-- ", "") if self.is_sql else ("/* ", " */")
        head = ["GENERATED from %s by tools/amalgamate.py: edit src/, then run `make amalgamate`."
                % self.spine, "Version %s, parts sha256 %s" % (version(), digest.hexdigest())]
        return "\n".join([start + line + end for line in head] + self.lines) + "\n"


def orphans(reached):
    found = []
    for folder, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in names:
            part = os.path.relpath(os.path.join(folder, name), ROOT).replace(os.sep, "/")
            if part not in reached and os.path.splitext(name)[1] in (".h", ".c", ".inl", ".sql"):
                found.append(part)
    return sorted(found)


def write(path, text):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = "%s.%d.tmp" % (path, os.getpid())
    with open(temporary, "w", encoding="ascii", newline="\n") as file:
        file.write(text)
    os.replace(temporary, path)


def main():
    parser = argparse.ArgumentParser(description="Expands the spines in src/ into the shipped files.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    parser.add_argument("--line", action="store_true", help="add #line directives")
    parser.add_argument("-o", "--output", default=ROOT, metavar="DIR", help="write under DIR")
    options = parser.parse_args()
    reached, results, stale = set(), [], []
    for spine, name in spines():
        expansion = Expansion(spine, options.line)
        results.append((os.path.join(options.output, name), name, expansion.output()))
        reached |= expansion.seen
    lost = orphans(reached)
    if lost:
        problem = "no spine reaches %s; add an include to its spine, or delete it" % ", ".join(lost)
        if options.check:
            raise Problem(problem)
        print("amalgamate: warning: " + problem, file=sys.stderr)  # a part may be half written
    for path, name, text in results:
        try:
            with open(path, "r", encoding="latin-1", newline="") as file:
                fresh = file.read() == text
        except OSError:
            fresh = False
        if not fresh and options.check:
            stale.append(name)
        elif not fresh:
            write(path, text)
            print("amalgamate: wrote %s, %d lines" % (name, text.count("\n")))
    if stale:
        raise Problem("stale: %s; run `make amalgamate`" % ", ".join(stale))


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit("amalgamate: %s" % problem)
