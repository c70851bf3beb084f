#!/usr/bin/env python3
"""Line coverage of src/ from the gcov data under a build folder, with the gate.

    tools/coverage.py build/coverage        a table by part, the lines missed, exit 1 below the gate

All expansions and all test programs are added up: a line is covered when any of them ran it. A line
whose text says `unreachable:` (with the reason) is not counted.
"""
import glob
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GATE = 95.0


def collect(folder):
    """part -> line -> times run, over every .gcda below the folder."""
    hits = {}
    data = sorted(glob.glob(os.path.join(ROOT, folder, "**", "*.gcda"), recursive=True))
    for start in range(0, len(data), 16):
        done = subprocess.run(["gcov", "--json-format", "--stdout"] + data[start:start + 16], cwd=ROOT,
                              check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for document in done.stdout.decode().splitlines():
            for file in json.loads(document)["files"]:
                part = os.path.normpath(file["file"])
                if os.path.isabs(part):
                    part = os.path.relpath(part, ROOT)
                if not part.startswith("src/"):
                    continue
                lines = hits.setdefault(part, {})
                for line in file["lines"]:
                    number = line["line_number"]
                    lines[number] = lines.get(number, 0) + line["count"]
    return hits


def ranges(numbers):
    """1 2 3 7 -> "1-3 7"."""
    text, numbers = [], sorted(numbers)
    while numbers:
        end = 1
        while end < len(numbers) and numbers[end] == numbers[0] + end:
            end += 1
        text.append("%d-%d" % (numbers[0], numbers[end - 1]) if end > 1 else "%d" % numbers[0])
        numbers = numbers[end:]
    return " ".join(text)


def main():
    hits = collect(sys.argv[1] if len(sys.argv) > 1 else "build/coverage")
    if not hits:
        sys.exit("coverage: no data; run `make coverage`")
    total = reached = 0
    for part in sorted(hits):
        with open(os.path.join(ROOT, part), encoding="ascii") as file:
            text = file.read().splitlines()
        lines = {number: count for number, count in hits[part].items()
                 if number <= len(text) and not re.search(r"unreachable:", text[number - 1])}
        missed = [number for number, count in lines.items() if not count]
        total, reached = total + len(lines), reached + len(lines) - len(missed)
        print("%-24s %6d lines %6.1f %%  missed: %s"
              % (part, len(lines), 100.0 * (len(lines) - len(missed)) / max(1, len(lines)), ranges(missed)))
    share = 100.0 * reached / max(1, total)
    print("coverage: %.2f %% of %d lines, the gate is %.0f %%" % (share, total, GATE))
    if share < GATE:
        sys.exit("coverage failed: below the gate")


if __name__ == "__main__":
    main()
