#!/usr/bin/env python3
"""Makes the reference data of the tests, tests/golden/*.h, with mpmath and numpy.

    python3 -m venv /tmp/golden-venv && /tmp/golden-venv/bin/pip install numpy mpmath
    /tmp/golden-venv/bin/python tools/golden.py             all headers
    /tmp/golden-venv/bin/python tools/golden.py half mathx  some of them

One function per header, in the table at the end. Nothing here calls the library.
"""
import os
import struct
import sys
import textwrap
from fractions import Fraction

import mpmath
import numpy

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
mpmath.mp.prec = 200


class Header:
    """Text of one header; recipe says in a sentence how the values were made."""
    def __init__(self, name, recipe):
        self.guard = "RV_GOLDEN_%s_H" % name.upper()
        self.lines = ["/* Made by tools/golden.py %s." % name, "   %s */" % recipe,
                      "#ifndef " + self.guard, "#define " + self.guard, "#include <stdint.h>"]

    def table(self, declaration, rows):
        """rows: C initialisers without braces."""
        self.lines += ["", "static const %s = {" % declaration]
        for row in rows:
            self.lines += textwrap.wrap("{%s}," % row, 96, initial_indent="    ",
                                        subsequent_indent="     ")
        self.lines += ["};"]

    def write(self, name):
        path = os.path.join(ROOT, "tests", "golden", name + ".h")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        text = "\n".join(self.lines + ["", "#endif /* %s */" % self.guard, ""])
        with open(path, "w", encoding="ascii", newline="\n") as file:
            file.write(text)
        print("golden: %s, %d lines" % (path, text.count("\n")))


def bits_of(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def float_of(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def literal(x):
    """A double literal that reads back as the double nearest to x."""
    value = float(x)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("not finite: %r" % x)
    return repr(value)


# ---- mathx ----

def mathx():
    functions = [
        ("exp", mpmath.exp, [-103.5, -100.0, -90.0, -87.5, -50.0, -10.0, -1.0, -0.5, -1e-3, -1e-20, 0.0,
                             1e-30, 1e-6, 0.25, 0.34657359, 0.3465736, 0.7, 1.0, 2.5, 10.0, 50.0, 88.0, 88.72]),
        ("log", mpmath.log, [1e-45, 1e-40, 1.1754944e-38, 1e-30, 1e-10, 0.1, 0.5, 0.70710677, 0.7071068,
                             0.9, 0.999, 0.9999999, 1.0, 1.0000001, 1.001, 1.1, 1.4142135, 1.4142137, 2.0,
                             2.7182817, 10.0, 1e10, 1e30, 3.4028235e38]),
        ("tanh", mpmath.tanh, [-9.5, -5.0, -1.0, -0.625, -0.1, -1e-10, 0.0, 1e-40, 1e-20, 1e-4, 0.3, 0.5,
                               0.62499994, 0.625, 0.7, 1.0, 2.0, 4.0, 8.0, 9.0, 9.02, 30.0, 1e30]),
        ("sigmoid", lambda x: 1 / (1 + mpmath.exp(-x)), [-103.0, -90.0, -87.0, -50.0, -20.0, -5.0, -1.0, -0.1,
                                                         -1e-20, 0.0, 1e-10, 0.5, 1.0, 5.0, 15.0, 17.0, 80.0]),
        ("erf", mpmath.erf, [-4.2, -3.0, -1.0, -0.5, -1e-5, 0.0, 1e-40, 1e-20, 1e-3, 0.1, 0.25, 0.5, 0.9,
                             0.91999996, 0.92, 0.93, 1.0, 1.5, 2.0, 3.0, 3.5, 3.9, 4.5, 1e20]),
    ]
    header = Header("mathx", "Mpmath at 200 bits; arguments as the bits of floats.")
    rows = []
    for number, (name, function, points) in enumerate(functions):
        for point in points:
            bits = bits_of(point)
            rows.append("%d, 0x%08Xu, %s" % (number, bits, literal(function(mpmath.mpf(float_of(bits))))))
    header.table("struct { int function; uint32_t x; double value; } rv_golden_mathx[]", rows)
    rows = []
    for scale in (1.0, -0.5, 30.0):
        x = [((i * 37 + 11) % 64 - 32) / 8.0 for i in range(17)]
        e = [mpmath.exp(mpmath.mpf(scale) * mpmath.mpf(v)) for v in x]
        rows += ["%s, %s, %s" % (literal(scale), literal(v), literal(value / sum(e))) for v, value in zip(x, e)]
    header.table("struct { double scale, x, value; } rv_golden_softmax[]", rows)
    header.write("mathx")


def scalar():
    """Double functions; random arguments from a fixed generator."""
    header = Header("scalar", "Mpmath at 200 bits; sine and cosine up to 2^20.")
    state, rows = 1, []
    for i in range(60):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        w = (state >> 11) / 2.0 ** 53
        for number, (function, x) in enumerate([
                (mpmath.exp, w * 1400.0 - 700.0), (mpmath.log, 0.5 + w),
                (mpmath.log, 2.0 ** (w * 2000.0 - 1000.0)),
                (mpmath.sin, (w - 0.5) * 2.0 ** (21 - i % 22)),
                (mpmath.cos, (w - 0.5) * 2.0 ** (21 - i % 22))]):
            rows.append("%d, %s, %s" % (number, literal(x), literal(function(mpmath.mpf(x)))))
    header.table("struct { int function; double x, value; } rv_golden_scalar[]", rows)
    header.write("scalar")


# ---- half ----

def bf16_of(bits):
    """Round to nearest even, from the exact value: the two neighbours and their middle."""
    if bits & 0x7FFFFFFF > 0x7F800000:
        return bits >> 16 | 0x40
    sign, magnitude = bits >> 31, bits & 0x7FFFFFFF
    low = magnitude >> 16
    exact = Fraction(float_of(magnitude)) if magnitude < 0x7F800000 else None
    if exact is None:
        return sign << 15 | 0x7F80
    below = Fraction(float_of(low << 16))
    top = (low + 1) << 16
    above = Fraction(2) ** 128 if top == 0x7F800000 else Fraction(float_of(top))
    up = exact - below > above - exact or (exact - below == above - exact and low & 1)
    return sign << 15 | (low + 1 if up else low)


def half():
    header = Header("half", "Numpy's float16; exact fractions for bfloat16.")
    edges = [0, 1, 0x00000800, 0x00007FFF, 0x00008000, 0x00018000, 0x007FFFFF, 0x00800000, 0x32FFFFFF, 0x33000000,
             0x33000001, 0x337FFFFF, 0x33800000, 0x33BFFFFF, 0x33C00000, 0x33C00001, 0x387FC000, 0x387FDFFF,
             0x387FE000, 0x387FE001, 0x387FFFFF, 0x38800000, 0x3F800000, 0x3F801000, 0x3F801001, 0x3F803000,
             0x3F808000, 0x3F808001, 0x3F818000, 0x40490FDB, 0x477FDFFF, 0x477FE000, 0x477FEFFF, 0x477FF000,
             0x477FFFFF, 0x47800000, 0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x7FFFFFFF]
    state, points = 1, []
    for i in range(120):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        points.append((state >> 40) & 0x7FFFFF | (90 + i % 60) << 23)
    rows = []
    for bits in [e | s for e in edges for s in (0, 0x80000000)] + points:
        with numpy.errstate(over="ignore"):
            f16 = int(numpy.array([bits], dtype=numpy.uint32).view(numpy.float32).astype(numpy.float16)
                      .view(numpy.uint16)[0])
        rows.append("0x%08Xu, 0x%04Xu, 0x%04Xu" % (bits, f16, bf16_of(bits)))
    header.table("struct { uint32_t f32; unsigned f16, bf16; } rv_golden_narrow[]", rows)
    rows = []
    for bits in [0, 1, 2, 0x3FF, 0x400, 0x401, 0x3C00, 0x3555, 0x7BFF, 0x7C00, 0x8000, 0x8001, 0xBC00, 0xFBFF,
                 0xFC00]:
        value = numpy.array([bits], dtype=numpy.uint16).view(numpy.float16).astype(numpy.float32)
        rows.append("0x%04Xu, 0x%08Xu" % (bits, int(value.view(numpy.uint32)[0])))
    header.table("struct { unsigned f16; uint32_t f32; } rv_golden_widen[]", rows)
    header.write("half")


# ---- distance ----

def distance():
    """The vectors are not stored: element i of vector v is ((i * 7919 + v * 104729) % 401 - 200) / 128,
    which float, f16 and bf16 hold exactly."""
    header = Header("distance", "Exact fractions, then rounded to double; see distance() there for the vectors.")

    def element(i, v):
        return Fraction((i * 7919 + v * 104729) % 401 - 200, 128)

    rows = []
    for n in (0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 96, 100, 127, 128, 384, 768, 1024, 1536):
        a = [element(i, 1) for i in range(n)]
        b = [element(i, 2) for i in range(n)]
        dot, aa, bb = (sum(x * y for x, y in zip(*pair)) for pair in ((a, b), (a, a), (b, b)))
        gaps = [abs(x - y) for x, y in zip(a, b)]
        if aa and bb:
            cosine = 1 - mpmath.mpf(dot.numerator) / dot.denominator / mpmath.sqrt(
                mpmath.mpf((aa * bb).numerator) / (aa * bb).denominator)
        else:
            cosine = 0
        rows.append("%d, {%s, %s, %s, %s, %s}, %s" % (
            n, literal(sum(g * g for g in gaps)), literal(-dot), literal(cosine), literal(sum(gaps)),
            literal(max(gaps + [0])), literal(sum(abs(x * y) for x, y in zip(a, b)))))
    header.table("struct { int n; double value[5], dot_size; } rv_golden_distance[]", rows)
    header.write("distance")


# ---- quant ----

def element(i, j):
    """Element j of row i, exact in a float; the tests make the same rows."""
    return ((i * 37 + j * 101 + i * j * 13) % 97 - 48) / 16.0


def quant_rows(n, dim):
    return numpy.array([[element(i, j) for j in range(dim)] for i in range(n)])


def mix(x):
    """splitmix64."""
    x = (x + 0x9E3779B97F4A7C15) % 2 ** 64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2 ** 64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2 ** 64
    return x ^ x >> 31


def xoshiro(seed):
    """Blackman and Vigna's xoshiro256++, its state filled by splitmix64."""
    def turn(x, by):
        return (x << by | x >> 64 - by) % 2 ** 64
    s = [mix((seed + i * 0x9E3779B97F4A7C15) % 2 ** 64) for i in range(4)]
    while True:
        yield (turn((s[0] + s[3]) % 2 ** 64, 23) + s[0]) % 2 ** 64
        t = s[1] << 17 & 2 ** 64 - 1
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = turn(s[3], 45)


def rotation(seed, dim):
    """The matrix of the random rotation, from the description in src/rotate.c: as a product of
    matrices, where the library runs butterflies."""
    padded = (dim + 63) // 64 * 64
    window = 1 << padded.bit_length() - 1
    half = padded // 2
    hadamard = numpy.eye(4)
    while len(hadamard) < window:
        hadamard = numpy.kron(numpy.array([[1, 1], [1, -1]]), hadamard)
    hadamard /= numpy.sqrt(window / 4)
    random, product = xoshiro(seed), numpy.eye(padded)
    for turn in range(4 if window == padded else 6):
        words = [next(random) for _ in range(padded // 64)]
        bits = numpy.array([words[i // 64] >> i % 64 & 1 for i in range(padded)])
        spread = numpy.eye(padded)
        first = padded - window if turn % 2 else 0
        spread[first:first + window, first:first + window] = hadamard
        shift = turn + 1 + (padded // 8 if turn % 2 else 0)
        walk = numpy.zeros((padded, padded))
        for i in range(half):
            other = half + (i + shift) % half
            walk[i, i] = walk[i, other] = walk[other, i] = numpy.sqrt(0.5)
            walk[other, other] = -numpy.sqrt(0.5)
        product = walk @ spread @ numpy.diag(1.0 - 2.0 * bits) @ product
    assert numpy.allclose(product @ product.T, numpy.eye(padded))
    return product[:, :dim]


def rabitq(header):
    """The estimator and the bound in the paper's words (Gao and Long 2024): o and q are unit vectors,
    the code is the corner of the cube nearest to P o, <o, q> is estimated by <code, q> / <code, o>."""
    dim, n, epsilon = 64, 8, 1.9
    p, x = rotation(7, dim), quant_rows(n + 1, dim)
    query, x = x[n], x[:n]
    centre = x.mean(axis=0)
    rows = []
    for i in range(n):
        length, reach = numpy.linalg.norm(x[i] - centre), numpy.linalg.norm(query - centre)
        o, q = p @ (x[i] - centre) / length, p @ (query - centre) / reach
        assert abs(o).min() > 1e-5, "a sign that rounding could turn"
        code = numpy.sign(o) / numpy.sqrt(dim)
        meets = code @ o
        estimate = length ** 2 + reach ** 2 - 2 * length * reach * (code @ q) / meets
        bound = 2 * length * reach * epsilon * numpy.sqrt((1 - meets ** 2) / meets ** 2 / (dim - 1))
        # the library rounds the query to bytes: a step's deviation is its width / sqrt(12)
        step = reach * abs(q).max() / 127
        slack = 2 * length / meets * 5 * step / numpy.sqrt(12)
        lost = length ** 2 * (1 - meets ** 2)
        rows.append(", ".join(literal(value) for value in (estimate, bound, slack, lost)))
    header.table("struct { double estimate, bound, slack, lost; } rv_golden_rabitq[]", rows)
    rows = []
    for d in (64, 100, 150):
        y = rotation(7, d) @ quant_rows(2, d)[1]
        rows += ["%d, %d, %s" % (d, at, literal(y[at])) for at in range(0, len(y), 11)]
    header.table("struct { int dim, at; double value; } rv_golden_rotation[]", rows)


def nearest(values, x):
    """Index of the nearest value, which must be clear."""
    gaps = ((values - x) ** 2).reshape(len(values), -1).sum(axis=1)
    order = numpy.argsort(gaps)
    assert gaps[order[1]] - gaps[order[0]] > 1e-4 * (gaps[order[1]] + 1e-3), "a tie"
    return order[0]


def product_codes(header):
    """Nearest centroids of a given book, and asymmetric distances as sums over the runs."""
    dim, widths, n = 7, (3, 2, 2), 8
    x = quant_rows(n + 1, dim)
    query, rows = x[n], []
    for i in range(n):
        picked, first = [], 0
        decoded = numpy.zeros(dim)
        for run, width in enumerate(widths):
            book = numpy.array([[((run * 53 + c * 29 + j * 71 + c * c * 7) % 101 - 50) / 11.0
                                 for j in range(width)] for c in range(16)])
            picked.append(nearest(book, x[i, first:first + width]))
            decoded[first:first + width] = book[picked[-1]]
            first += width
        rows.append("{%s}, %s, %s" % (", ".join(map(str, picked)), literal(((query - decoded) ** 2).sum()),
                                      literal(-(query @ decoded))))
    header.table("struct { int code[3]; double l2, ip; } rv_golden_pq[]", rows)


def scalar_codes(header):
    """The nearest of all levels of a dimension with a given middle and step."""
    dim, n = 9, 8
    x = quant_rows(n + 1, dim) * 1.01
    query = x[n]
    for name, levels in (("sq8", numpy.arange(-127, 128)), ("sq4", numpy.arange(-7.5, 8))):
        rows = []
        for i in range(n):
            middle = (numpy.arange(dim) - 4) / 4.0
            step = 2 * (numpy.arange(dim) + 3) / 16.0 / (1 if name == "sq4" else 16)
            codes = [levels[nearest(levels * step[j] + middle[j], numpy.float32(x[i, j]))] for j in range(dim)]
            decoded = middle + step * codes
            q = numpy.float32(query).astype(float)
            # SQ4 rounds the query to bytes, half a step of the widest element for each level
            w = abs(step * (q - middle)).max() / 127 / 2
            slack = 2 * w * abs(numpy.array(codes)).sum() if name == "sq4" else 0
            rows.append("{%s}, %s, %s" % (", ".join(literal(value) for value in decoded),
                                          literal(((q - decoded) ** 2).sum()), literal(slack)))
        header.table("struct { double decoded[9], l2, slack; } rv_golden_%s[]" % name, rows)


def quant():
    header = Header("quant", "Numpy, from the papers' formulas; see quant() and element() there.")
    rabitq(header)
    product_codes(header)
    scalar_codes(header)
    header.write("quant")


HEADERS = {"mathx": mathx, "scalar": scalar, "half": half, "distance": distance, "quant": quant}


def main():
    names = sys.argv[1:] or sorted(HEADERS)
    for name in names:
        if name not in HEADERS:
            sys.exit("golden: no header %s; there are %s" % (name, ", ".join(sorted(HEADERS))))
        HEADERS[name]()


if __name__ == "__main__":
    main()
