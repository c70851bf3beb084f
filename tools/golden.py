#!/usr/bin/env python3
"""Makes the reference data of the tests, tests/golden/*.h, with mpmath, numpy, torch and onnx.

    python3 -m venv /tmp/golden-venv && /tmp/golden-venv/bin/pip install numpy mpmath
    /tmp/golden-venv/bin/pip install torch onnx             for norm, loss, optim, affine
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
    value = float(x.detach() if hasattr(x, "detach") else x)
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
    rows = []
    for i in range(60):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        w = (state >> 11) / 2.0 ** 53
        size = 10.0 ** (i % 20 - 15)
        for number, (function, x) in enumerate([
                (mpmath.log1p, w * size if i % 2 else (w - 0.5) * min(size, 1.9)),
                (mpmath.expm1, (w - 0.5) * (2.0 if i % 4 else min(size, 100.0))),
                (mpmath.asinh, w * size), (mpmath.tanh, (w - 0.5) * min(size, 40.0)),
                (lambda x: mpmath.atan2(x, mpmath.mpf(0.5)), w * size),
                (lambda x: mpmath.atan2(x, mpmath.mpf(-2)), w)]):
            rows.append("%d, %s, %s" % (number, literal(x), literal(function(mpmath.mpf(x)))))
    header.table("struct { int function; double x, value; } rv_golden_curved[]", rows)
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


# ---- hyperbolic ----

class Lcg:
    """Uniform in [-1, 1), the same everywhere."""
    def __init__(self, seed):
        self.state = seed

    def __call__(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        return (self.state >> 11) / 2.0 ** 52 - 1.0

    def direction(self, n):
        x = [self() for _ in range(n)]
        length = sum(v * v for v in x) ** 0.5
        return [v / length for v in x]


def mp_dot(x, y):
    return sum((mpmath.mpf(a) * b for a, b in zip(x, y)), mpmath.mpf(0))


def mp_mix(a, x, b, y):
    return [mpmath.mpf(a) * u + mpmath.mpf(b) * v for u, v in zip(x, y)]


class Stereo:
    """The kappa-stereographic model in the words of Bachmann et al. (2020), for kappa < 0 those of
    Ganea et al. (2018): every formula through Moebius addition and the gyration."""
    def __init__(self, kappa):
        self.k = mpmath.mpf(kappa)
        self.root = mpmath.sqrt(abs(self.k))

    def tan(self, t):
        return t if self.k == 0 else (mpmath.tanh if self.k < 0 else mpmath.tan)(self.root * t) / self.root

    def atan(self, t):
        return t if self.k == 0 else (mpmath.atanh if self.k < 0 else mpmath.atan)(self.root * t) / self.root

    def lam(self, x):
        return 2 / (1 + self.k * mp_dot(x, x))

    def add(self, x, y):
        k, xy, xx, yy = self.k, mp_dot(x, y), mp_dot(x, x), mp_dot(y, y)
        d = 1 - 2 * k * xy + k * k * xx * yy
        return mp_mix((1 - 2 * k * xy - k * yy) / d, x, (1 + k * xx) / d, y)

    def between(self, x, y):
        return self.add([-v for v in x], y)

    def distance(self, x, y):
        u = self.between(x, y)
        return 2 * self.atan(mpmath.sqrt(mp_dot(u, u)))

    def scale(self, r, x):
        n = mpmath.sqrt(mp_dot(x, x))
        return [self.tan(r * self.atan(n)) * v / n for v in x]

    def exp(self, x, v):
        n = mpmath.sqrt(mp_dot(v, v))
        return self.add(x, [self.tan(self.lam(x) * n / 2) * u / n for u in v])

    def log(self, x, y):
        u = self.between(x, y)
        n = mpmath.sqrt(mp_dot(u, u))
        return [2 / self.lam(x) * self.atan(n) * v / n for v in u]

    def gyr(self, a, b, v):
        """(a + b) + gyr[a, b] v = a + (b + v)"""
        left = [-u for u in self.add(a, b)]
        return self.add(left, self.add(a, self.add(b, v)))

    def transport(self, x, y, v):
        turned = self.gyr(y, [-u for u in x], v)
        return [self.lam(x) / self.lam(y) * u for u in turned]

    def gradient(self, x, y):
        """The Riemannian gradient is -log_x(y) / |log_x(y)|_x; times lambda^2."""
        u = self.log(x, y)
        return [-self.lam(x) * v / mpmath.sqrt(mp_dot(u, u)) for v in u]

    def midpoint(self, points, weights):
        top = [sum(w * self.lam(p) * p[j] for w, p in zip(weights, points)) for j in range(len(points[0]))]
        bottom = sum(w * (self.lam(p) - 1) for w, p in zip(weights, points))
        return self.scale(mpmath.mpf(1) / 2, [v / bottom for v in top])

    def mean(self, points, weights):
        m = self.midpoint(points, weights)
        for _ in range(3000):
            step = [mpmath.mpf(0)] * len(m)
            for w, p in zip(weights, points):
                if p != m:
                    step = mp_mix(1, step, w / sum(weights), self.log(m, p))
            m = self.exp(m, [v / 25 for v in step])
            if mp_dot(step, step) < mpmath.mpf(10) ** -44:
                return m
        raise ValueError("no convergence")


class Sheet:
    """The Lorentz model (Nickel and Kiela, 2018), points with time first."""
    def __init__(self, c):
        self.c = mpmath.mpf(c)

    def lift(self, x):
        return [mpmath.sqrt(1 / self.c + mp_dot(x, x))] + [mpmath.mpf(v) for v in x]

    def tangent(self, x, v):
        return [mp_dot(x[1:], v) / x[0]] + [mpmath.mpf(u) for u in v]

    @staticmethod
    def inner(x, y):
        return mp_dot(x[1:], y[1:]) - x[0] * y[0]

    def distance(self, x, y):
        return mpmath.acosh(-self.c * self.inner(x, y)) / mpmath.sqrt(self.c)

    def exp(self, x, v):
        n = mpmath.sqrt(self.c * self.inner(v, v))
        return mp_mix(mpmath.cosh(n), x, mpmath.sinh(n) / n, v)

    def log(self, x, y):
        a = -self.c * self.inner(x, y)
        f = mpmath.acosh(a) / mpmath.sqrt(a * a - 1)
        return mp_mix(f, y, -f * a, x)

    def transport(self, x, y, v):
        f = self.inner(y, v) / (1 / self.c - self.inner(x, y))
        return [u + f * (a + b) for u, a, b in zip(v, x, y)]


def numbers(*groups):
    """Literals, lists in braces."""
    return ", ".join("{%s}" % ", ".join(literal(v) for v in g) if isinstance(g, list) else literal(g) for g in groups)


def ball_pairs(c, random):
    """Points up to 1e-9 from the rim: anywhere, near each other, on one line, on opposite sides."""
    radius = 1 / c ** 0.5
    margins = [0.9, 0.5, 0.1, 1e-2, 1e-3, 1e-5, 1e-7, 1e-9]
    for i in range(36):
        one, other = random.direction(3), random.direction(3)
        near, away = (1 - margins[i % 8]) * radius, (1 - margins[(i * 5 + 3) % 8]) * radius
        if i % 4 == 1:
            other, away = [v + 1e-6 * margins[i % 8] * random() for v in one], near
        if i % 4 == 2:
            other = one
        if i % 4 == 3:
            other = [-v for v in one] if i % 8 == 3 else other
        x, y = [near * v for v in one], [away * v for v in other]
        v = [margins[i % 8] * radius * random() * (1 + i % 3) for _ in one]
        yield x, y, v, 0.5 + random() * 1.5, 0.5 + 0.5 * random()


def adam(space, move, carry, to_riemann, length, x, gradients):
    """Becigneul and Ganea (2019), rate 0.1, with the bias corrections of Adam."""
    m, second, rows = [mpmath.mpf(0)] * len(x), mpmath.mpf(0), []
    b1, b2, eps = mpmath.mpf(0.9), mpmath.mpf(0.999), mpmath.mpf(1e-8)
    for step, g in enumerate(gradients, 1):
        g = to_riemann(x, g)
        m = mp_mix(b1, m, 1 - b1, g)
        second = b2 * second + (1 - b2) * length(x, g)
        rate = -mpmath.mpf(0.1) / (1 - b1 ** step) / (mpmath.sqrt(second / (1 - b2 ** step)) + eps)
        there = move(x, [rate * v for v in m])
        m, x = carry(x, there, m), there
        rows.append((x, m))
    return rows


def hyperbolic_ball(header):
    rows, sheets, random = [], [], Lcg(7)
    for c in (0.1, 1.0, 4.0):
        space, sheet = Stereo(-mpmath.mpf(c)), Sheet(c)
        for x, y, v, r, t in ball_pairs(c, random):
            px, py, pv = ([mpmath.mpf(u) for u in w] for w in (x, y, v))
            way = space.log(px, py)
            rows.append(numbers(c, x, y, v, r, t, space.distance(px, py), space.add(px, py), space.exp(px, pv), way,
                                space.transport(px, py, pv), space.exp(px, [t * u for u in way]),
                                space.gradient(px, py), space.scale(r, px)))
            a, b = ([float(space.lam(w) * u) for u in w] for w in (px, py))
            la, lb, lv = sheet.lift(a), sheet.lift(b), sheet.tangent(sheet.lift(a), v)
            sheets.append(numbers(c, a, b, v, sheet.distance(la, lb), sheet.log(la, lb), sheet.exp(la, lv),
                                  sheet.transport(la, lb, lv)))
    header.table("struct { double c, x[3], y[3], v[3], r, t, distance, add[3], exp[3], log[3], transport[3], "
                 "geodesic[3], gradient[3], scale[3]; } rv_golden_ball[]", rows)
    header.table("struct { double c, x[3], y[3], v[3], distance, log[4], exp[4], transport[4]; } rv_golden_sheet[]",
                 sheets)


def hyperbolic_stereo(header):
    rows, random = [], Lcg(8)
    for kappa in (-2.0, -1.0, -1e-2, -1e-3, -1e-5, -1e-8, -1e-12, -1e-20, 0.0, 1e-20, 1e-12, 1e-8, 1e-5, 1e-3, 1e-2,
                  1.0, 3.0):
        space = Stereo(kappa)
        x, y, v, z = ([0.5 * random() for _ in range(2)] for _ in range(4))
        points = [[mpmath.mpf(u) for u in w] for w in (x, y, z)]
        px, py, pv = points[0], points[1], [mpmath.mpf(u) for u in v]
        rows.append(numbers(kappa, x, y, z, v, space.distance(px, py), space.add(px, py), space.exp(px, pv),
                            space.log(px, py), space.scale(1.5, px), space.midpoint(points, [1, 2, mpmath.mpf(0.5)])))
    header.table("struct { double kappa, x[2], y[2], z[2], v[2], distance, add[2], exp[2], log[2], scale[2], "
                 "midpoint[2]; } rv_golden_stereo[]", rows)


def hyperbolic():
    header = Header("hyperbolic", "Mpmath at 300 bits, by the papers' formulas; arguments are exact doubles.")
    with mpmath.workprec(300):
        hyperbolic_ball(header)
        hyperbolic_stereo(header)
        rows, random = [], Lcg(9)
        for c, margin in ((0.1, 0.3), (1.0, 0.05), (4.0, 1e-6), (1.0, 1e-9)):
            space = Stereo(-mpmath.mpf(c))
            points = [[(1 - margin * (1 + random())) / c ** 0.5 * v for v in random.direction(2)] for _ in range(4)]
            exact = [[mpmath.mpf(u) for u in p] for p in points]
            weights = [1.0, 0.5, 2.0, 0.25]
            rows.append(numbers(c, sum(points, []), weights, space.midpoint(exact, weights),
                                space.mean(exact, weights)))
        header.table("struct { double c, points[8], weights[4], midpoint[2], mean[2]; } rv_golden_mean[]", rows)
        gradients = [[1.0, -0.5], [0.25, 2.0], [-1.5, 0.125], [0.5, 0.5]]
        exact = [[mpmath.mpf(u) for u in g] for g in gradients]
        rows = []
        for c in (0.25, 1.0):
            space, sheet = Stereo(-mpmath.mpf(c)), Sheet(c)
            for x, m in adam(space, space.exp, space.transport, lambda x, g: [v / space.lam(x) ** 2 for v in g],
                             lambda x, g: space.lam(x) ** 2 * mp_dot(g, g), [mpmath.mpf(0.5), mpmath.mpf(-0.25)],
                             exact):
                rows.append(numbers(c, x + [0], m + [0]))
            for x, m in adam(sheet, sheet.exp, sheet.transport, sheet.tangent, lambda x, g: sheet.inner(g, g),
                             sheet.lift([0.5, -0.25]), exact):
                rows.append(numbers(c, x, m))
        header.table("struct { double c, x[3], moment[3]; } rv_golden_adam[]", rows)
    header.write("hyperbolic")


# ---- norm, loss, optim ----

def torch_of():
    """Torch with the doubles that the headers below are made of; nothing else here needs it."""
    import torch
    torch.set_default_dtype(torch.float64)
    return torch


def grid(v, *shape):
    """Input number v: elements that a float holds exactly; the tests make the same ones."""
    n = int(numpy.prod(shape))
    flat = numpy.array([((i * 7919 + v * 104729 + i * i * v) % 401 - 200) / 128.0 for i in range(n)])
    return flat.reshape(shape)


def leaves(*arrays):
    torch = torch_of()
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def braces(*tensors):
    """All elements of some tensors as one initialiser."""
    flat = [float(x) for t in tensors if t is not None for x in numpy.asarray(t.detach()).reshape(-1)]
    return "{%s}" % ", ".join(literal(x) for x in flat)


def norm():
    torch = torch_of()
    header = Header("norm", "Torch %s in float64, gradients by autograd; inputs from grid()." % torch.__version__)
    dim, n, inner, rows = 7, 3, 2, []
    for kind in range(3):
        for residual in range(2):
            for affine in range(2):
                shape = (n, dim, inner) if kind == 2 else (n, dim)
                x, r, gamma, beta = leaves(grid(1, *shape), grid(2, *shape), grid(3, dim), grid(4, dim))
                mean, variance = torch.tensor(grid(5, dim)), torch.tensor(numpy.abs(grid(6, dim)) + 0.25)
                z = x + r if residual else x
                g, b = (gamma, beta) if affine else (None, None)
                if kind == 0:
                    y = torch.nn.functional.layer_norm(z, (dim,), g, b, 2.0 ** -10)
                elif kind == 1:
                    y = torch.nn.functional.rms_norm(z, (dim,), g, 2.0 ** -10) + (b if affine else 0.0)
                else:
                    y = torch.nn.functional.batch_norm(z, mean, variance, g, b, False, 0.1, 2.0 ** -10)
                d_y, d_z = torch.tensor(grid(7, *shape)), torch.tensor(grid(8, *shape))
                ((y * d_y).sum() + (z * d_z).sum() * residual).backward()
                zero = torch.zeros(dim)
                rows.append("%d, %d, %d, %s, %s, %s, %s" % (
                    kind, residual, affine, braces(y), braces(x.grad),
                    braces(gamma.grad if affine else zero), braces(beta.grad if affine else zero)))
    header.table("struct { int kind, residual, affine; double out[42], d_x[42], d_gamma[7], d_beta[7]; } "
                 "rv_golden_norm[]", rows)
    header.write("norm")


def infonce_of(torch, form, tau, a, p, n):
    s_p = torch.nn.functional.cosine_similarity(a[None], p) / tau
    s_n = torch.nn.functional.cosine_similarity(a[None], n) / tau if len(n) else torch.zeros(0)
    if form == 0:
        return torch.stack([torch.logsumexp(torch.cat([s[None], s_n]), 0) - s for s in s_p]).mean()
    everything = torch.logsumexp(torch.cat([s_p, s_n]), 0)
    return (everything - s_p).mean() if form == 1 else everything - torch.logsumexp(s_p, 0)


def contrastive(header, torch):
    rows, dim = [], 5
    for form in range(3):
        for n_pos, n_neg, tau in ((1, 1, 0.5), (1, 4, 0.0625), (3, 2, 0.25), (2, 0, 1.0), (3, 5, 0.03125)):
            a, p, n = leaves(grid(1, dim), grid(2, n_pos, dim), grid(3, n_neg, dim))
            loss = infonce_of(torch, form, tau, a, p, n)
            loss.backward()
            rows.append("%d, %d, %d, %s, %s, %s" % (form, n_pos, n_neg, literal(tau), literal(loss),
                                                    braces(a.grad, p.grad, n.grad if n_neg else None)))
    header.table("struct { int form, n_pos, n_neg; double tau, loss, grad[45]; } rv_golden_infonce[]", rows)
    rows = []
    for symmetric in range(2):
        a, p = leaves(grid(4, 6, 5), grid(5, 6, 5))
        s = torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(p).T / 0.125
        loss = torch.nn.functional.cross_entropy(s, torch.arange(6))
        if symmetric:
            loss = (loss + torch.nn.functional.cross_entropy(s.T, torch.arange(6))) / 2
        loss.backward()
        rows.append("%d, %s, %s" % (symmetric, literal(loss), braces(a.grad, p.grad)))
    header.table("struct { int symmetric; double loss, grad[60]; } rv_golden_infonce_batch[]", rows)
    rows = []
    graph = [[1, 2], [0], [0, 3, 4], [2], [2], []]  # the test adds a self-loop and a duplicate
    for form in range(3):
        x, = leaves(grid(6, 6, 3))
        losses = [infonce_of(torch, form, 0.25, x[i], x[own],
                             x[[j for j in range(6) if j != i and j not in own]])
                  for i, own in enumerate(graph) if own]
        loss = torch.stack(losses).mean()
        loss.backward()
        rows.append("%d, %s, %s" % (form, literal(loss), braces(x.grad)))
    header.table("struct { int form; double loss, grad[18]; } rv_golden_local[]", rows)
    rows = []
    for margin in (0.25, 1.0, 2.5):
        a, p, n = leaves(grid(7, 4, 5), grid(8, 4, 5), grid(9, 4, 5))
        loss = torch.nn.TripletMarginLoss(margin)(a, p, n)
        loss.backward()
        rows.append("%s, %s, %s" % (literal(margin), literal(loss), braces(a.grad, p.grad, n.grad)))
    header.table("struct { double margin, loss, grad[60]; } rv_golden_triplet[]", rows)


def regularizers(header, torch):
    rows, edges = [], [(0, 1, 1.0), (1, 2, 0.5), (0, 2, 2.0), (3, 1, 0.25), (3, 3, 4.0)]
    for normalized in range(2):
        x, = leaves(grid(1, 5, 3))
        w = torch.zeros(5, 5)
        for i, j, weight in edges:
            w[i, j] = w[j, i] = weight
        degree = w.sum(1)
        laplacian = torch.diag(degree) - w
        if normalized:
            scale = torch.diag(torch.where(degree > 0, degree.clamp(min=1e-300) ** -0.5, 0.0))
            laplacian = scale @ laplacian @ scale
        loss = torch.trace(x.T @ laplacian @ x)
        loss.backward()
        rows.append("%d, %s, %s" % (normalized, literal(loss), braces(x.grad)))
    header.table("struct { int normalized; double loss, grad[15]; } rv_golden_laplacian[]", rows)
    rows = []
    for by_rows, divisor in ((0, 0.0), (1, 0.0), (0, 2.0), (1, 4.0)):
        x, = leaves(grid(2, 4, 3))
        gram = x @ x.T / (divisor or 1.0) if by_rows else x.T @ x / (divisor or 4.0)
        loss = ((gram - torch.eye(len(gram))) ** 2).sum()
        loss.backward()
        rows.append("%d, %s, %s, %s" % (by_rows, literal(divisor), literal(loss), braces(x.grad)))
    header.table("struct { int rows; double divisor, loss, grad[12]; } rv_golden_orthogonal[]", rows)
    x, w = leaves(grid(3, 4, 3), grid(4, 6, 4))
    loss = ((x.norm(dim=1) - 1) ** 2).mean()
    sigma = torch.linalg.matrix_norm(w, 2)
    (loss + sigma).backward()
    header.table("struct { double loss, grad[12], sigma, d_w[24]; } rv_golden_shape[]",
                 ["%s, %s, %s, %s" % (literal(loss), braces(x.grad), literal(sigma), braces(w.grad))])


def probabilities(header, torch):
    f = torch.nn.functional
    x, y, logits = leaves(grid(1, 10), grid(2, 10), grid(3, 4, 5) * 3)
    mse, entropy = f.mse_loss(x, y), f.cross_entropy(logits, torch.tensor([4, 0, 2, 2]))
    (mse + entropy).backward()
    header.table("struct { double mse, grad[20], entropy, d_logits[20]; } rv_golden_mse[]",
                 ["%s, %s, %s, %s" % (literal(mse), braces(x.grad, y.grad), literal(entropy), braces(logits.grad))])
    # 64ths, so that floats hold them and rows sum to 1
    p, q = leaves(numpy.array([[10, 20, 1, 33], [16, 0, 16, 32]]) / 64.0,
                  numpy.array([[16, 16, 16, 16], [1, 30, 3, 30]]) / 64.0)
    middle = (p + q) / 2

    def divergence(a, b):
        """The mean over both rows; the derivative at an element 0 counts as 0."""
        return torch.special.xlogy(a, torch.where(a > 0, a / b, 1.0)).sum() / 2

    kl, js = divergence(p, q), (divergence(p, middle) + divergence(q, middle)) / 2
    grads = list(torch.autograd.grad(kl, [p, q], retain_graph=True) + torch.autograd.grad(js, [p, q]))
    grads[2] = torch.where(p == 0, 0.0, grads[2])  # -infinity there, which counts as 0
    d = torch.distributions
    assert abs(kl - d.kl_divergence(d.Categorical(p[:1]), d.Categorical(q[:1])).sum() / 2
               - torch.special.xlogy(p[1], p[1] / q[1]).sum() / 2) < 1e-12
    header.table("struct { double kl, d_kl[16], js, d_js[16]; } rv_golden_kl[]",
                 ["%s, %s, %s, %s" % (literal(kl), braces(*grads[:2]), literal(js), braces(*grads[2:]))])
    rows = []
    for given in range(2):
        m1, l1, m2, l2 = leaves(grid(4, 3, 4), grid(5, 3, 4), grid(6, 3, 4) * given, grid(7, 3, 4) * given)
        loss = d.kl_divergence(d.Normal(m1, (l1 / 2).exp()), d.Normal(m2, (l2 / 2).exp())).sum() / 3
        loss.backward()
        rows.append("%d, %s, %s" % (given, literal(loss), braces(m1.grad, l1.grad, m2.grad, l2.grad)))
    header.table("struct { int given; double loss, grad[48]; } rv_golden_gaussian[]", rows)


def several(header, torch):
    losses, (log_sigma,) = torch.tensor([0.5, 2.0, 8.0]), leaves(grid(1, 3))
    sigma = log_sigma.exp()
    total = (losses / (2 * sigma ** 2) + sigma.log()).sum()
    total.backward()
    header.table("struct { double total, factor[3], grad[3]; } rv_golden_uncertain[]",
                 ["%s, %s, %s" % (literal(total), braces(1 / (2 * sigma ** 2)), braces(log_sigma.grad))])
    rows = []
    for alpha in (0.0, 1.5):
        w, = leaves(numpy.array([1.0, 0.5, 1.5]))
        lengths, initial = torch.tensor([2.0, 0.25, 4.0]), torch.tensor([1.0, 2.0, 32.0])
        rate = losses / initial
        target = ((w * lengths).mean() * (rate / rate.mean()) ** alpha).detach()
        objective = (w * lengths - target).abs().sum()
        objective.backward()
        stepped = w - 0.0625 * w.grad
        rows.append("%s, %s, %s" % (literal(alpha), literal(objective), braces(stepped / stepped.sum() * 3)))
    header.table("struct { double alpha, objective, weight[3]; } rv_golden_gradnorm[]", rows)


def loss():
    torch = torch_of()
    header = Header("loss", "Torch %s in float64, gradients by autograd; inputs from grid()." % torch.__version__)
    contrastive(header, torch)
    regularizers(header, torch)
    probabilities(header, torch)
    several(header, torch)
    header.write("loss")


def onnx_step(onnx, name, t, tensors, **attributes):
    """One node of ai.onnx.preview.training through the reference evaluator, in doubles."""
    from onnx.reference import ReferenceEvaluator
    names = ["x%d" % i for i in range(len(tensors))]
    outs = ["y%d" % i for i in range(len(tensors) - 1)]
    node = onnx.helper.make_node(name, ["r", "t"] + names, outs, domain="ai.onnx.preview.training", **attributes)
    infos = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, None) for n in names]
    infos = [onnx.helper.make_tensor_value_info("r", onnx.TensorProto.DOUBLE, []),
             onnx.helper.make_tensor_value_info("t", onnx.TensorProto.INT64, [])] + infos
    results = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, None) for n in outs]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "step", infos, results), opset_imports=[
        onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("ai.onnx.preview.training", 1)])
    feeds = {"r": numpy.array(0.125), "t": numpy.array(t, dtype=numpy.int64)}
    feeds.update(zip(names, tensors))
    return ReferenceEvaluator(model).run(None, feeds)


def optim():
    import onnx
    torch = torch_of()
    header = Header("optim", "Torch %s and the reference evaluator of ONNX %s, in float64; four steps of lr 1/8, "
                    "gradient of step t is grid(t + 2), parameters start from grid(1)." % (
                        torch.__version__, onnx.__version__))
    single = lambda x: float(numpy.float32(x))  # noqa: E731 - what the test can pass
    betas = (single(0.9), single(0.999))
    rows, n = [], 5
    for kind, momentum, dampening, nesterov, decay, other, make in (
            (0, 0.0, 0.0, 0, 0.0, 0.0, lambda p: torch.optim.SGD(p, 0.125)),
            (0, 0.75, 0.0, 0, 0.0, 0.0, lambda p: torch.optim.SGD(p, 0.125, 0.75)),
            (0, 0.75, 0.25, 0, 0.0625, 0.0, lambda p: torch.optim.SGD(p, 0.125, 0.75, 0.25, 0.0625)),
            (0, 0.75, 0.0, 1, 0.0625, 0.0, lambda p: torch.optim.SGD(p, 0.125, 0.75, 0.0, 0.0625, True)),
            (1, 0.0, 0.0, 0, 0.0, 0.0, lambda p: torch.optim.Adam(p, 0.125, betas)),
            (1, 0.0, 0.0, 0, 0.0625, 0.5, lambda p: torch.optim.Adam(p, 0.125, betas, 0.5, 0.0625)),
            (2, 0.0, 0.0, 0, 0.0, 0.0, lambda p: torch.optim.AdamW(p, 0.125, betas)),
            (2, 0.0, 0.0, 0, 0.25, 0.0, lambda p: torch.optim.AdamW(p, 0.125, betas, weight_decay=0.25)),
            (3, 0.0, 0.0, 0, 0.0, 0.0, lambda p: torch.optim.Adagrad(p, 0.125)),
            (3, 0.0, 0.0, 0, 0.0625, 0.5, lambda p: torch.optim.Adagrad(p, 0.125, 0.5, 0.0625, 0.25, 0.5))):
        x = torch.nn.Parameter(torch.tensor(grid(1, n)))
        optimizer, path = make([x]), []
        for t in range(4):
            x.grad = torch.tensor(grid(t + 2, n))
            optimizer.step()
            path.append(x.detach().clone())
        rows.append("%d, %s, %s, %d, %s, %s, 0, %s" % (kind, literal(momentum), literal(dampening), nesterov,
                                                       literal(decay), literal(other), braces(*path)))
    for kind, mode, decay, after in ((0, "standard", 0.0625, 0.0), (0, "nesterov", 0.0625, 0.0), (3, "", 0.0625, 0.0),
                                     (4, "", 0.0625, 0.0), (4, "", 0.0, 0.03125)):
        x, state, path = grid(1, n), [numpy.zeros(n) for _ in range(2 if kind == 4 else 1)], []
        for t in range(4):
            g = grid(t + 2, n)
            if kind == 0:
                x, *state = onnx_step(onnx, "Momentum", t, [x, g] + state, alpha=0.75, beta=0.875, mode=mode,
                                      norm_coefficient=decay)
            elif kind == 3:
                x, *state = onnx_step(onnx, "Adagrad", t, [x, g] + state, epsilon=0.25, decay_factor=0.5,
                                      norm_coefficient=decay)
            else:
                x, *state = onnx_step(onnx, "Adam", t, [x, g] + state, alpha=betas[0], beta=betas[1], epsilon=0.25,
                                      norm_coefficient=decay, norm_coefficient_post=after)
            path.append(torch.tensor(x))
        rows.append("%d, %s, %s, %d, %s, %s, 1, %s" % (
            kind, "0.75" if kind == 0 else "0.0", "0.125" if kind == 0 else "0.0", mode == "nesterov", literal(decay),
            literal(after), braces(*path)))
    header.table("struct { int kind; double momentum, dampening; int nesterov; double decay, other; int onnx; "
                 "double path[20]; } rv_golden_optim[]", rows)
    rows = []
    for limit in (0.5, 4.0, 100.0):
        a, b = (torch.nn.Parameter(torch.zeros(m)) for m in (5, 7))
        a.grad, b.grad = torch.tensor(grid(1, 5)), torch.tensor(grid(2, 7))
        length = torch.nn.utils.clip_grad_norm_([a, b], limit)
        rows.append("%s, %s, %s" % (literal(limit), literal(length), braces(a.grad, b.grad)))
    header.table("struct { double limit, norm, grad[12]; } rv_golden_clip[]", rows)
    header.write("optim")


# ---- affine, lowrank ----

def onnx_run(node, opset, feeds, count=1):
    import onnx
    from onnx.reference import ReferenceEvaluator
    types = {name: onnx.helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds.items()}
    infos = [onnx.helper.make_tensor_value_info(name, t, None) for name, t in types.items()]
    outs = [onnx.helper.make_tensor_value_info(name, 0, None) for name in node.output]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "run", infos, outs),
                                   opset_imports=[onnx.helper.make_opsetid("", opset)])
    return ReferenceEvaluator(model).run(None, feeds)[:count]


def affine():
    """The scales are the tests' own: 1/64 makes ties of the inputs, which are multiples of 1/128."""
    import onnx
    header = Header("affine", "The reference evaluator of ONNX %s; inputs are 4 times grid(1), scale k is "
                    "(k + 1) / 64 and 0.3 * (k + 1) for case 1." % onnx.__version__)
    kinds = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4,
             onnx.TensorProto.INT16, onnx.TensorProto.UINT16)
    zeros, rows = (3, 120, -2, 7, 300, 30000), []
    x = (grid(1, 3, 4, 2) * 4).astype(numpy.float32)
    for kind, proto in enumerate(kinds):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(proto)
        for case, (axis, block, shape) in enumerate(((0, 0, ()), (0, 0, (3,)), (1, 0, (4,)), (1, 3, (3, 2, 2)))):
            count = int(numpy.prod(shape)) if shape else 1
            step = 0.3 if case == 1 else 1.0 / 64
            scale = numpy.array([step * (i + 1) for i in range(count)], dtype=numpy.float32).reshape(shape)
            zero = numpy.full(shape, zeros[kind]).astype(dtype)
            extra = {"axis": axis, "block_size": block} if block else {"axis": axis} if shape else {}
            q, = onnx_run(onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], **extra), 21,
                          {"x": x, "s": scale, "z": zero})
            back, = onnx_run(onnx.helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], **extra), 21,
                             {"x": q, "s": scale, "z": zero})
            rows.append("%d, %d, %d, %d, {%s}, {%s}" % (
                kind, axis if shape else -1, block, zeros[kind], ", ".join(str(int(v)) for v in q.reshape(-1)),
                ", ".join(literal(v) for v in back.reshape(-1))))
    header.table("struct { int kind, axis, block, zero, code[24]; double back[24]; } rv_golden_affine[]", rows)
    rows = []
    for v in (1, 2, 3):
        for shift in (0.0, 2.0, -2.0):
            values = (grid(v, 6) + shift).astype(numpy.float32)
            y, scale, zero = onnx_run(onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"]), 11,
                                      {"x": values}, 3)
            rows.append("%d, %s, %s, %d, {%s}" % (v, literal(shift), literal(scale), zero,
                                                  ", ".join(str(int(c)) for c in y)))
    header.table("struct { int v; double shift, scale; int zero, code[6]; } rv_golden_dynamic[]", rows)
    header.write("affine")


def lowrank():
    header = Header("lowrank", "Numpy's SVD in float64 of grid(1) as a matrix; nearest: that of rank 2.")
    rows = []
    for m, n in ((7, 5), (5, 7), (6, 6), (1, 4), (4, 1)):
        u, s, vt = numpy.linalg.svd(grid(1, m, n), full_matrices=False)
        k = min(2, m, n)
        near = (u[:, :k] * s[:k]) @ vt[:k]
        rows.append("%d, %d, {%s}, {%s}" % (m, n, ", ".join(map(literal, s)),
                                            ", ".join(map(literal, near.reshape(-1)))))
    header.table("struct { int m, n; double s[7], nearest[49]; } rv_golden_svd[]", rows)
    header.write("lowrank")


HEADERS = {"mathx": mathx, "scalar": scalar, "half": half, "distance": distance, "quant": quant,
           "hyperbolic": hyperbolic, "norm": norm, "loss": loss, "optim": optim, "affine": affine, "lowrank": lowrank}


def main():
    names = sys.argv[1:] or sorted(HEADERS)
    for name in names:
        if name not in HEADERS:
            sys.exit("golden: no header %s; there are %s" % (name, ", ".join(sorted(HEADERS))))
        HEADERS[name]()


if __name__ == "__main__":
    main()
