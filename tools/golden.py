#!/usr/bin/env python3
"""Makes the reference data of the tests, tests/golden/*.h, with mpmath, numpy, torch and onnx.

    python3 -m venv /tmp/golden-venv && /tmp/golden-venv/bin/pip install numpy mpmath
    /tmp/golden-venv/bin/pip install torch onnx             for norm, loss, optim, affine
    /tmp/golden-venv/bin/pip install torch POT scipy        for transport, diffusion
    /tmp/golden-venv/bin/pip install torch_geometric        for gnn
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
    flat = [float(x) for t in tensors if t is not None
            for x in numpy.asarray(t.detach() if hasattr(t, "detach") else t).reshape(-1)]
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


# ---- info, topology and their attention ----

# 64ths, so that floats hold them and rows sum to 1
SIMPLEX = numpy.array([[8, 8, 8, 8, 8, 8, 8, 8], [1, 2, 3, 4, 5, 6, 7, 36], [0, 64, 0, 0, 0, 0, 0, 0],
                       [0, 30, 3, 1, 0, 10, 0, 20], [9, 8, 8, 8, 8, 8, 8, 7], [36, 7, 6, 5, 4, 3, 2, 1]]) / 64.0


def mp_fisher_rao(p, q):
    """2 arccos of the sum of sqrt(p q), for rows of numbers of any sum."""
    p, q = [mpmath.mpf(float(x)) for x in p], [mpmath.mpf(float(x)) for x in q]
    return 2 * mpmath.acos(sum(mpmath.sqrt(x * y) for x, y in zip(p, q)) / mpmath.sqrt(sum(p) * sum(q)))


def fisher(header):
    import scipy.sparse.linalg
    rows, p = [], SIMPLEX
    for i in range(len(p)):
        full = numpy.diag(p[i]) - numpy.outer(p[i], p[i])
        b = grid(i + 1, 8)
        rows.append("%d, %s, %s, %s, %s" % (
            i + 1, braces(full @ b), braces(numpy.linalg.pinv(full) @ b),
            braces(numpy.linalg.solve(full + numpy.eye(8) / 128, b)), braces(b / (p[i] + 1 / 128))))
    header.table("struct { int v; double times[8], pinv[8], damped[8], diagonal[8]; } rv_golden_fisher[]", rows)
    # conjugate gradients stopped early: the same iterates as scipy's
    a = grid(3, 6, 6)
    a, b, rows = a @ a.T + numpy.eye(6), grid(4, 6), []
    for most in (1, 2, 3, 6):
        x, _ = scipy.sparse.linalg.cg(a, b, x0=grid(5, 6), rtol=1e-15, maxiter=most)
        rows.append("%d, %s, %s" % (most, braces(x), literal(numpy.linalg.norm(b - a @ x) / numpy.linalg.norm(b))))
    header.table("struct { int most; double x[6], residual; } rv_golden_cg[]", rows)


def bottleneck(header, torch):
    rows = []
    for scale in (1.0, 20.0):  # beyond the clamps with 20
        m, l = leaves(grid(1, 3, 5), grid(2, 3, 5) * scale)
        key = mix(77 ^ mix(5))
        draws = [(mix((key + 2 * e) % 2 ** 64) >> 11, mix((key + 2 * e + 1) % 2 ** 64) >> 11) for e in range(15)]
        noise = [float(mpmath.sqrt(-2 * mpmath.log(mpmath.mpf(a + 1) / 2 ** 53)) *
                       mpmath.cos(2 * mpmath.pi * b / 2 ** 53)) for a, b in draws]
        low = -20.0 if scale == 1.0 else float(numpy.log(numpy.float64(numpy.float32(1e-4))))
        inside = l.clamp(low, 20.0)
        z = m + (inside / 2).exp() * torch.tensor(noise).reshape(3, 5)
        d = torch.distributions
        kl = d.kl_divergence(d.Normal(m, (inside / 2).exp()), d.Normal(torch.zeros(3, 5), torch.ones(3, 5))).sum(1)
        loss = 0.25 * 30 / 40 * kl.mean()
        (loss + (z * torch.tensor(grid(3, 3, 5))).sum()).backward()
        rows.append("%s, %s, %s, %s, %s" % (literal(scale), braces(z), braces(kl), literal(loss),
                                            braces(m.grad, l.grad)))
    header.table("struct { double scale, z[15], kl[3], loss, grad[30]; } rv_golden_vib[]", rows)


def info():
    import scipy.spatial.distance
    torch = torch_of()
    header = Header("info", "Torch %s and scipy %s in float64, gradients by autograd; Fisher-Rao by mpmath."
                    % (torch.__version__, scipy.__version__))
    p, rows = SIMPLEX, []
    for i in range(len(p)):
        w = [torch.softmax(torch.tensor(p[i]).log() / t, 0) for t in (0.5, 3.0)]
        rows.append("%s, %s, %s, %s, %s" % (
            braces(p[i]), literal(-torch.special.xlogy(torch.tensor(p[i]), torch.tensor(p[i])).sum()),
            braces(*w), "{%s}" % ", ".join(literal(mp_fisher_rao(p[i], q)) for q in p),
            "{%s}" % ", ".join(literal(scipy.spatial.distance.jensenshannon(p[i], q) ** 2) for q in p)))
    header.table("struct { double p[8], entropy, compressed[16], distance[6], js[6]; } rv_golden_simplex[]", rows)
    fisher(header)
    bottleneck(header, torch)
    header.write("info")


def attention(torch, logits, q, k, v, causal):
    """Softmax attention over given logits [heads, n_q, n_k]; q: [n_q, heads, dim], k, v with heads
    of their own. out [n_q, heads, dim_v], weights."""
    n_q, n_k = logits.shape[1:]
    if causal:
        hidden = torch.arange(n_k)[None, :] > torch.arange(n_q)[:, None] + n_k - n_q
        logits = logits.masked_fill(hidden, -torch.inf)
    w = torch.softmax(logits, 2)
    v = v.repeat_interleave(q.shape[1] // v.shape[1], 1)
    return torch.einsum("hij,jhx->ihx", w, v), w


def attn_info():
    torch = torch_of()
    header = Header("attn_info", "Torch %s in float64, gradients by autograd; inputs from grid()." % torch.__version__)
    shape = {"q": (4, 2, 3), "k": (5, 1, 3), "v": (5, 1, 2)}
    rows = []
    for kind in range(2):
        for causal in range(2):
            q, k, v = leaves(*[grid(i + 1, *s) for i, s in enumerate(shape.values())])
            key = k.repeat_interleave(2, 1)
            if kind == 0:
                p, r = torch.softmax(q, 2), torch.softmax(key, 2)
                d = 2 * torch.acos(torch.einsum("ihx,jhx->hij", p.sqrt(), r.sqrt()))
                out, w = attention(torch, -d ** 2 / 0.25, q, k, v, causal)
            else:  # compression 0.5 of scale 2, beta_t = 3 * 10 / 40
                out, w = attention(torch, torch.einsum("ihx,jhx->hij", q, key) * 2 / 0.5, q, k, v, causal)
            seen = (w > 0).sum(2)
            rate = seen.log() + torch.special.xlogy(w, torch.where(w > 0, w, 1.0)).sum(2)
            loss = (out * torch.tensor(grid(4, 4, 2, 2))).sum() + 0.75 * rate.mean() * kind
            loss.backward()
            rows.append("%d, %d, %s, %s, %s, %s, %s, %s" % (
                kind, causal, braces(out), braces(w), braces(rate), braces(q.grad), braces(k.grad), braces(v.grad)))
    header.table("struct { int kind, causal; double out[16], weights[40], rate[8], d_q[24], d_k[15], d_v[10]; } "
                 "rv_golden_attn_info[]", rows)
    header.write("attn_info")


def coherence_of(x, k):
    """By the definition, and the least gap that decides about a neighbour."""
    n = len(x)
    length = numpy.linalg.norm(x, axis=1, keepdims=True)
    unit = numpy.divide(x, length, out=numpy.zeros_like(x), where=length > 0)
    cosine = unit @ unit.T
    numpy.fill_diagonal(cosine, -numpy.inf)
    order = numpy.argsort(-cosine, axis=1, kind="stable")
    near = numpy.take_along_axis(cosine, order[:, :k], 1)
    rest = numpy.take_along_axis(cosine, order[:, k:k + 1], 1)
    gap = numpy.min(near[:, -1:] - rest) if k < n - 1 else 1.0
    i, j = numpy.repeat(numpy.arange(n), k), order[:, :k].reshape(-1)
    parts = [numpy.mean(4 * abs(i - j) <= n), 1 - numpy.mean((i < n // 2) != (j < n // 2)),
             1 - numpy.mean(near.var(axis=1)), 1 - numpy.mean(near.std(axis=1))]
    return parts + [numpy.mean(parts)], gap


def topology():
    import scipy.sparse.csgraph
    import scipy.spatial.distance
    header = Header("topology", "Numpy %s by the definition; trees by scipy %s; in float64, inputs from grid()."
                    % (numpy.__version__, scipy.__version__))
    rows = []
    for v, n, dim, k in ((1, 40, 6, 8), (2, 25, 3, 3), (3, 5, 4, 8), (4, 2, 3, 1), (5, 31, 16, 1)):
        parts, gap = coherence_of(grid(v, n, dim), min(k, n - 1))
        assert gap > 1e-5, (v, gap)
        rows.append("%d, %d, %d, %d, {%s}" % (v, n, dim, k, ", ".join(map(literal, parts))))
    header.table("struct { int v, n, dim, k; double parts[5]; } rv_golden_coherence[]", rows)
    rows = []
    for v, n, dim in ((1, 30, 4), (2, 12, 1), (3, 2, 7), (4, 25, 17)):
        x = grid(v, n, dim)
        tree = scipy.sparse.csgraph.minimum_spanning_tree(scipy.spatial.distance.cdist(x, x))
        lengths = numpy.sort(tree.data)
        assert len(lengths) == n - 1
        rows.append("%d, %d, %d, %s" % (v, n, dim, braces(lengths)))
    header.table("struct { int v, n, dim; double lengths[29]; } rv_golden_tree[]", rows)
    header.write("topology")


def attn_topology():
    torch = torch_of()
    header = Header("attn_topology", "Torch %s in float64, gradients by autograd; inputs from grid()."
                    % torch.__version__)
    rows = []
    for width in (1, 3, 7):
        for causal in range(2):
            q, k, v = leaves(grid(1, 5, 2, 3), grid(2, 7, 1, 3), grid(3, 7, 1, 2))
            s = torch.einsum("ihx,jhx->hij", q, k.repeat_interleave(2, 1)) * 0.5
            seen = s.detach().clone()
            if causal:
                seen[:, torch.arange(7)[None, :] > torch.arange(5)[:, None] + 2] = -torch.inf
            bound = seen.topk(width, 2).values[:, :, -1:]
            out, w = attention(torch, torch.where(seen >= bound, s, -torch.inf), q, k, v, causal)
            (out * torch.tensor(grid(4, 5, 2, 2))).sum().backward()
            rows.append("%d, %d, %s, %s, %s, %s, %s" % (
                width, causal, braces(out), braces(w), braces(q.grad), braces(k.grad), braces(v.grad)))
    header.table("struct { int width, causal; double out[20], weights[70], d_q[30], d_k[21], d_v[14]; } "
                 "rv_golden_attn_topology[]", rows)
    header.write("attn_topology")
# ---- positions ----

def rope_theta(dim, base=10000, scaling=0, factor=1, length=4096, fast=32, slow=1):
    """Angles per position as the papers and the code of YaRN's authors give them."""
    base, factor, half = mpmath.mpf(base), mpmath.mpf(factor), dim // 2
    if scaling == 2:
        base *= factor ** (mpmath.mpf(dim) / (dim - 2))
    theta = [base ** (mpmath.mpf(-2 * t) / dim) for t in range(half)]
    if scaling == 1:
        theta = [x / factor for x in theta]
    if scaling == 3:
        def at(turns):
            return dim * mpmath.log(length / (turns * 2 * mpmath.pi)) / (2 * mpmath.log(base))
        low, high = max(mpmath.floor(at(fast)), 0), min(mpmath.ceil(at(slow)), dim - 1)
        high = low + mpmath.mpf("0.001") if low == high else high
        for t in range(half):
            ramp = min(max((t - low) / (high - low), 0), 1)
            theta[t] = theta[t] / factor * ramp + theta[t] * (1 - ramp)
    return theta, (1 + mpmath.log(factor) / 10 if scaling == 3 else mpmath.mpf(1))


def t5_bucket(torch, offset, both, buckets, far):
    """As in T5Attention._relative_position_bucket of Hugging Face transformers, in float32."""
    side, base = buckets, torch.zeros_like(offset)
    if both:
        side //= 2
        base += (offset > 0).long() * side
        offset = offset.abs()
    else:
        offset = -torch.min(offset, torch.zeros_like(offset))
    exact = side // 2
    logs = torch.log(offset.float() / exact) / numpy.log(far / exact) * (side - exact)
    large = torch.min(exact + logs.to(torch.long), torch.full_like(offset, side - 1))
    return base + torch.where(offset < exact, offset, large)


def position():
    import onnx
    torch = torch_of()
    header = Header("position", "RotaryEmbedding: reference evaluator of onnx %s in float64 on its eight node "
                    "cases' attributes; angles: mpmath; buckets: the code of transformers' T5 in torch %s."
                    % (onnx.__version__, torch.__version__))
    rows, ids = [], numpy.array([[(i * 17 + b * 29 + 5) % 50 for i in range(3)] for b in range(2)])
    for three, pairs, rotary, given in ((0, 0, 0, 1), (1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 4, 1), (0, 1, 4, 1),
                                        (0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 4, 0)):
        half = (rotary or 8) // 2
        shape = (50, half) if given else (2, 3, half)
        feeds = {"x": grid(1, 2, 3, 32) if three else grid(1, 2, 4, 3, 8), "c": grid(2, *shape), "s": grid(3, *shape)}
        if given:
            feeds["p"] = ids
        extra = {"interleaved": pairs, "rotary_embedding_dim": rotary}
        if three:
            extra["num_heads"] = 4
        y, = onnx_run(onnx.helper.make_node("RotaryEmbedding", list(feeds), ["y"], **extra), 23, feeds)
        rows.append("%d, %d, %d, %d, %s" % (three, pairs, rotary, given, braces(torch.tensor(y))))
    header.table("struct { int three, pairs, rotary, given; double out[192]; } rv_golden_rotary[]", rows)
    rows = []
    for dim, scaling, base, factor, length, fast, slow in (
            (64, 0, 10000, 1, 1, 32, 1), (2, 0, 500000, 1, 1, 32, 1), (64, 1, 10000, 4, 1, 32, 1),
            (64, 2, 10000, 8, 1, 32, 1), (2, 2, 10000, 8, 1, 32, 1), (64, 3, 10000, 16, 4096, 32, 1),
            (64, 3, 1000000, 4, 32768, 32, 1), (16, 3, 100, 2, 64, 8, 2), (4, 3, 10000, 40, 4096, 32, 1)):
        theta, gain = rope_theta(dim, base, scaling if dim > 2 else 0, factor, length, fast, slow)
        for t in range(0, dim // 2, 1 if dim < 64 else 3):
            for p in (1, 17, 1000000):
                angle = theta[t] * p
                rows.append(", ".join(["%d" % v for v in (dim, scaling, base, factor, length, fast, slow, t, p)] + [
                    literal(theta[t]), literal(gain * mpmath.cos(angle)), literal(gain * mpmath.sin(angle))]))
    header.table("struct { int dim, scaling, base, factor, length, fast, slow, t, p; double theta, cosine, sine; } "
                 "rv_golden_rope[]", rows)
    rows = []
    for both, buckets, far in ((1, 32, 128), (0, 32, 128), (1, 64, 256), (0, 16, 100), (1, 8, 20)):
        values = t5_bucket(torch, torch.arange(-150, 151), both, buckets, far)
        rows.append("%d, %d, %d, {%s}" % (both, buckets, far, ", ".join(str(int(v)) for v in values)))
    header.table("struct { int both, buckets, far, bucket[301]; } rv_golden_t5[]", rows)
    rows = []
    for both, past in ((1, 0), (0, 0), (0, 9)):
        table = torch.tensor(grid(4, 32, 2), requires_grad=True)
        place = torch.arange(20)[None, :] - torch.arange(6)[:, None] - past
        bias = table[t5_bucket(torch, place, both, 32, 128)].permute(2, 0, 1)
        (bias * torch.tensor(grid(5, 2, 6, 20))).sum().backward()
        rows.append("%d, %d, %s, %s" % (both, past, braces(bias), braces(table.grad)))
    header.table("struct { int both, past; double bias[240], d_table[64]; } rv_golden_t5_bias[]", rows)
    header.write("position")


# ---- attention by position ----

def turned(torch, x, place, dim, halves=0, **scaling):
    """Rows of heads, [n, heads, d], their first dim elements turned by place: [n]."""
    theta, gain = rope_theta(dim, **scaling)
    angle = place[:, None] * torch.tensor([float(t) for t in theta])
    c, s = (torch.cos(angle) * float(gain))[:, None], (torch.sin(angle) * float(gain))[:, None]
    if halves:
        a, b = x[..., :dim // 2], x[..., dim // 2:dim]
        return torch.cat((a * c - b * s, b * c + a * s, x[..., dim:]), -1)
    a, b = x[..., 0:dim:2], x[..., 1:dim:2]
    return torch.cat((torch.stack((a * c - b * s, b * c + a * s), -1).flatten(-2), x[..., dim:]), -1)


def softmax_of(torch, logits, hidden=None):
    return torch.softmax(logits if hidden is None else logits.masked_fill(hidden, -numpy.inf), -1)


def shortest(n, edges):
    """Hops by Floyd and Warshall; of each pair the path that is first in lexicographic order."""
    hops = [[0 if i == j else 10 ** 6 for j in range(n)] for i in range(n)]
    for i, j in edges:
        hops[i][j] = 1
    for m in range(n):
        for i in range(n):
            for j in range(n):
                hops[i][j] = min(hops[i][j], hops[i][m] + hops[m][j])

    def path(i, j):
        if i == j:
            return []
        step = min(v for u, v in edges if u == i and hops[v][j] == hops[i][j] - 1)
        return [edges.index((i, step))] + path(step, j)
    return hops, path


def structural(header, torch):
    edges = [(0, 1), (0, 2), (1, 0), (1, 3), (2, 3), (3, 4), (4, 0)]  # sorted; node 5 stands alone
    hops, path = shortest(6, edges)
    rows = []
    for with_edges in range(2):
        q, k, v = leaves(grid(1, 6, 2, 6), grid(2, 6, 1, 6), grid(3, 6, 1, 4))
        params, x = leaves(grid(4, 28 if with_edges else 10), grid(5, 7, 3))
        b, bias = params[:10].reshape(2, 5), []
        for h in range(2):
            for i in range(6):
                for j in range(6):
                    bias.append(b[h, min(hops[i][j], 4)])
                    if with_edges and 0 < hops[i][j] <= 3:
                        w = params[10:].reshape(2, 3, 3)[h]
                        bias[-1] = bias[-1] + sum(w[t] @ x[e] for t, e in enumerate(path(i, j))) / hops[i][j]
        w = softmax_of(torch, torch.einsum("ihd,jd->hij", q, k[:, 0]) / 6 ** 0.5 + torch.stack(bias).reshape(2, 6, 6))
        out = torch.einsum("hij,jv->ihv", w, v[:, 0])
        (out * torch.tensor(grid(9, 6, 2, 4))).sum().backward()
        rows.append(", ".join(braces(y) for y in (out, w, q.grad, k.grad, v.grad, params.grad,
                                                  x.grad if with_edges else torch.zeros(1))))
    header.table("struct { double out[48], weights[72], d_q[72], d_k[36], d_v[24], d_params[28], d_edges[21]; } "
                 "rv_golden_structural[]", rows)


def cross_space(header, torch):
    graph = [[1, 2], [0, 3], [3], [4], [0], []]
    x, rows = grid(6, 6, 3), []
    near = [sorted(sorted((j for j in range(6) if j != i), key=lambda j: (((x[i] - x[j]) ** 2).sum(), j))[:2])
            for i in range(6)]

    def attend(q, k, v, lists):
        out, weights = [], []
        for i, ids in enumerate(lists):
            w = torch.zeros(2, 6)
            if ids:
                part = softmax_of(torch, torch.einsum("hd,jd->hj", q[i], k[ids, 0]) / 2)
                w = torch.zeros(2, 6).index_copy(1, torch.tensor(ids), part)
            weights.append(w)
            out.append(w @ v[:, 0])
        return torch.stack(out), torch.stack(weights, 1)
    for form in range(3):
        q, k, v, params = leaves(grid(1, 6, 2, 4), grid(2, 6, 1, 4), grid(3, 6, 1, 4), grid(4, 8, 24))
        other = graph if form == 2 else near
        (a, wa), (b, wb) = attend(q, k, v, graph), attend(q, k, v, other)
        c, wc = attend(a, k, v, other)
        parts = torch.cat([y.reshape(6, 8) for y in (a, b, c)], 1)
        out = parts @ params.T if form == 1 else (parts[:, :8] + parts[:, 8:16] + parts[:, 16:]) / 3
        (out * torch.tensor(grid(9, 6, 8))).sum().backward()
        rows.append(", ".join(braces(y) for y in (out, (wa + wb + wc) / 3, q.grad, k.grad, v.grad,
                                                  params.grad if form == 1 else torch.zeros(1))))
    header.table("struct { double out[48], weights[72], d_q[48], d_k[24], d_v[24], d_params[192]; } "
                 "rv_golden_cross[]", rows)


def attn_position():
    torch = torch_of()
    header = Header("attn_position", "Torch %s in float64, gradients by autograd of sum(out * grid(9)); inputs from "
                    "grid(); 2 heads of 6, one of keys, 6 queries, 7 keys, values of 4." % torch.__version__)
    rows, place = [], torch.arange(7).double()
    ago = torch.arange(6)[:, None] - torch.arange(7)[None, :]
    for kind, form in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1), (4, 2)):
        q, k, v = leaves(grid(1, 6, 2, 6), grid(2, 7, 1, 6), grid(3, 7, 1, 4))
        params, hidden, bias, scale, two = None, None, 0.0, 6 ** -0.5, None
        x, y = q, k
        if kind == 0 and form == 0:   # causal: queries stand at 1 ... 6
            x, y, hidden = turned(torch, q, place[:6] + 1, 6), turned(torch, k, place, 6), ago < -1
        elif kind == 0 and form == 1:
            x, y = turned(torch, q, place[:6] * 3 + 2, 4, 1, base=100), turned(torch, k, 50 - place * 7, 4, 1, base=100)
        elif kind == 0:
            args = {"scaling": 3, "factor": 4, "length": 16, "fast": 3, "slow": 1}
            x, y = turned(torch, q, place[:6] * 1.5, 6, **args), turned(torch, k, -place * 0.25, 6, **args)
        elif kind == 1 and form == 0:
            y = turned(torch, k, torch.clamp(place * 0.75, max=3.5), 6)
        elif kind == 1:
            far = torch.clamp(torch.tensor(numpy.abs(grid(5, 6, 7)) * 4), max=3.5)
            y = torch.stack([turned(torch, k, far[i], 6) for i in range(6)])
        elif kind == 2:
            params = torch.tensor([2.0 ** -4, 2.0 ** -8] if form == 0 else [0.5, 0.125], requires_grad=True)
            past, hidden = (0, None) if form == 0 else (3, ago + 3 < 0)
            bias = -params[:, None, None] * (ago + past).abs()
        elif kind == 3:
            params, scale = torch.tensor(grid(4, 32, 2), requires_grad=True), 1.0
            bias = params[t5_bucket(torch, -ago - (0 if form == 0 else 1), form == 0, 32, 128)].permute(2, 0, 1)
            hidden = None if form == 0 else ago < -1
        else:
            params = torch.tensor(grid(4, 18 if form == 0 else 32), requires_grad=True)
            own, other = torch.arange(6) % 3, torch.tensor([1, 0, 2, 0, 0, 1, 2])
            bias = params[:18].reshape(2, 3, 3)[:, own][:, :, other]
            if form:
                gate = torch.sigmoid(torch.einsum("ihd,hd->hi", q, params[18:30].reshape(2, 6)) + params[30:, None])
                low = (other == 0).expand(6, 7)
                if form == 2:         # query 4 sees keys of layer 0 only, query 5 none of them
                    hidden = torch.zeros(6, 7, dtype=torch.bool)
                    hidden[4] = other != 0
                    hidden[5] = other == 0
                    gate = torch.cat((gate[:, :4], torch.ones(2, 1), torch.zeros(2, 1)), 1)
                two = (gate[..., None], low)
        logits = (torch.einsum("ihd,ijd->hij", x, y[:, :, 0]) if kind == 1 and form == 1 else
                  torch.einsum("ihd,jd->hij", x, y[:, 0])) * scale
        if kind == 3 and form == 1:   # the cap comes before the bias
            logits = 2 * torch.tanh(logits / 2)
        logits = logits + bias
        if two is None:
            w = softmax_of(torch, logits, hidden)
        else:
            hidden = torch.zeros(6, 7, dtype=torch.bool) if hidden is None else hidden
            parts = [torch.nan_to_num(softmax_of(torch, logits, hidden | away)) for away in (~two[1], two[1])]
            if form == 2:             # softmax of nothing has no gradient worth having
                parts = [torch.cat((parts[0][:, :5], torch.zeros(2, 1, 7)), 1),
                         torch.cat((parts[1][:, :4], torch.zeros(2, 1, 7), parts[1][:, 5:]), 1)]
            w = two[0] * parts[0] + (1 - two[0]) * parts[1]
        out = torch.einsum("hij,jv->ihv", w, v[:, 0])
        (out * torch.tensor(grid(9, 6, 2, 4))).sum().backward()
        rows.append("%d, %d, %s, %s, %s, %s, %s, %s" % (
            kind, form, braces(out), braces(w), braces(q.grad), braces(k.grad), braces(v.grad),
            braces(params.grad) if params is not None else "{0}"))
    header.table("struct { int kind, form; double out[48], weights[84], d_q[72], d_k[42], d_v[28], d_params[64]; } "
                 "rv_golden_attn_position[]", rows)
    header.write("attn_position")


def attn_position_graph():
    torch = torch_of()
    header = Header("attn_position_graph", "Torch %s in float64, gradients by autograd of sum(out * grid(9)); inputs "
                    "from grid(); 2 heads of 6, one of keys, values of 4." % torch.__version__)
    structural(header, torch)
    cross_space(header, torch)
    header.write("attn_position_graph")
# ---- transport ----

def clouds(n, m, dim, weighted):
    x, y = leaves(grid(1, n, dim), grid(2, m, dim))
    a, b = numpy.full(n, 1.0 / n), numpy.full(m, 1.0 / m)
    if weighted:
        a, b = numpy.abs(grid(3, n)) + 0.125, numpy.abs(grid(4, m)) + 0.125
        a[n // 2] = 0.0
    return x, y, a / a.sum(), b / b.sum()


def squares(x, y):
    return ((x.detach().numpy()[:, None] - y.detach().numpy()[None]) ** 2).sum(2)


def transport():
    """Clouds are grid(1) and grid(2), weights |grid| + 1/8 of 3 and 4 with one 0, directions grid(5)."""
    import ot
    import scipy
    import scipy.optimize
    torch = torch_of()
    header = Header("transport", "POT %s (sliced_wasserstein_distance over torch %s, emd2,\n   sinkhorn_log to 1e-13) "
                    "and scipy %s (linear_sum_assignment), float64." % (ot.__version__, torch.__version__,
                                                                    scipy.__version__))
    rows = []
    for n, m, dim, weighted in ((1, 1, 3, 0), (5, 5, 2, 0), (4, 7, 3, 0), (7, 4, 3, 1), (6, 6, 1, 1)):
        for p in (1.0, 1.5, 2.0, 3.0):
            x, y, a, b = clouds(n, m, dim, weighted)
            value = ot.sliced_wasserstein_distance(x, y, torch.tensor(a), torch.tensor(b), 6, p,
                                                   projections=torch.tensor(grid(5, 6, dim)).T)
            value.backward()
            pad = torch.zeros(21 - n * dim), torch.zeros(21 - m * dim)
            rows.append("%d, %d, %d, %d, %s, %s, %s, %s" % (
                n, m, dim, weighted, literal(p), literal(value), braces(x.grad, pad[0]), braces(y.grad, pad[1])))
    header.table("struct { int n, m, dim, weighted; double p, value, d_x[21], d_y[21]; } rv_golden_sliced[]", rows)
    rows = []
    for n, m, dim, weighted in ((1, 1, 3, 0), (5, 5, 2, 0), (4, 7, 3, 0), (7, 4, 3, 1), (9, 1, 2, 1), (20, 20, 3, 0),
                                (23, 17, 4, 1)):
        x, y, a, b = clouds(n, m, dim, weighted)
        cost = squares(x, y)
        exact = ot.emd2(a, b, cost)
        if n == m and not weighted:
            i, j = scipy.optimize.linear_sum_assignment(cost)
            if abs(cost[i, j].mean() - exact) > 1e-12:
                sys.exit("golden: POT and scipy disagree")
        for epsilon in (0.25, 2.0):
            plan = ot.sinkhorn(a, b, cost, epsilon, method="sinkhorn_log", stopThr=1e-13, numItermax=1000000)
            both = a[:, None] * b[None]
            there = both > 0
            kl = (plan[there] * numpy.log(plan[there] / both[there])).sum()
            corner = plan[:4, :4]
            some = numpy.zeros((4, 4))
            some[:corner.shape[0], :corner.shape[1]] = corner
            rows.append("%d, %d, %d, %d, %s, %s, %s, %s, %s" % (
                n, m, dim, weighted, literal(epsilon), literal(exact), literal((plan * cost).sum()),
                literal((plan * cost).sum() + epsilon * kl), braces(torch.tensor(some))))
    header.table("struct { int n, m, dim, weighted; double epsilon, exact, cost, value, corner[16]; } "
                 "rv_golden_plan[]", rows)
    header.write("transport")


# ---- attention by transport and diffusion ----

def attend(weights, v, heads, kv_heads):
    """weights [heads, n_q, n_k] and v [n_k, kv_heads, dim_v] to out [n_q, heads, dim_v]."""
    torch = torch_of()
    return torch.stack([weights[h] @ v[:, h * kv_heads // heads] for h in range(heads)], 1)


def slopes_of(out, *inputs):
    (out * torch_of().tensor(grid(4, *out.shape))).sum().backward()
    return [x.grad for x in inputs]


def attn_sliced(header):
    torch = torch_of()
    rows = []
    n_q, n_k, heads, kv_heads, m, s, dim_v = 3, 9, 2, 1, 3, 2, 2
    for p in (1.0, 2.0, 2.5):
        for top, causal in ((9, 0), (4, 0), (3, 1)):
            q, k, v = leaves(grid(1, n_q, heads, m, s), grid(2, n_k, kv_heads, m, s), grid(3, n_k, kv_heads, dim_v))
            u = torch.tensor(grid(5, 4, s))
            seen = torch.ones(n_q, n_k).tril(n_k - n_q if causal else n_k) > 0
            weights = []
            for h in range(heads):
                a, b = torch.sort(q[:, h] @ u.T, 1)[0], torch.sort(k[:, h * kv_heads // heads] @ u.T, 1)[0]
                gap = ((a[:, None] - b[None]).abs() ** p).mean((2, 3)) ** (1 / p)
                dots = (q[:, h].reshape(n_q, -1) @ k[:, h * kv_heads // heads].reshape(n_k, -1).T).detach()
                dots[~seen] = -torch.inf
                kept = torch.zeros(n_q, n_k, dtype=torch.bool).scatter(1, torch.topk(dots, top)[1], True) & seen
                weights.append(torch.softmax((-gap / 0.5).masked_fill(~kept, -torch.inf), 1))
            out = attend(weights, v, heads, kv_heads)
            d_q, d_k, d_v = slopes_of(out, q, k, v)
            rows.append("%s, %d, %d, %s, %s, %s, %s" % (literal(p), top, causal, braces(out), braces(d_q), braces(d_k),
                                                       braces(d_v)))
    header.table("struct { double p; int top, causal; double out[12], d_q[36], d_k[54], d_v[18]; } "
                 "rv_golden_attn_sliced[]", rows)


def attn_centroid(header):
    """Keys lie around three far places, so that any clustering into three finds the same; key j is of j % 3."""
    torch = torch_of()
    rows = []
    n_k, heads, kv_heads, dim, dim_v, m = 10, 2, 1, 3, 2, 3
    places = numpy.array([[3.0, 0.0, 0.0], [0.0, -3.0, 0.5], [-2.0, 2.0, 1.0]])
    for n_q, balanced, steps, epsilon in ((4, 1, 20, 4.0), (4, 1, 3, 2.0), (5, 1, 1, 0.5), (4, 0, 0, 4.0),
                                          (1, 0, 0, 2.0)):
        keys = grid(2, n_k, kv_heads, dim) / 8.0 + places[numpy.arange(n_k) % m][:, None]
        q, k, v = leaves(grid(1, n_q, heads, dim), keys, grid(3, n_k, kv_heads, dim_v))
        own = torch.tensor(numpy.eye(m)[numpy.arange(n_k) % m])
        mass = own.sum(0)
        weights = []
        for h in range(heads):
            centre = (own.T / mass[:, None]) @ k[:, h * kv_heads // heads]
            c = ((q[:, h, None] - centre[None]) ** 2).sum(2) / epsilon
            b = torch.log(mass / n_k)
            u, w = torch.zeros(n_q), torch.zeros(m)
            for step in range(steps):
                w = -torch.logsumexp(u[:, None] - c, 0) + numpy.log(n_q)
                u = -torch.logsumexp((b + w)[None] - c, 1)
            share = torch.exp(b[None] + u[:, None] + w[None] - c) if balanced else torch.softmax(b[None] - c, 1)
            weights.append(share / mass[None] @ own.T)
        out = attend(weights, v, heads, kv_heads)
        d_q, d_k, d_v = slopes_of(out, q, k, v)
        pad = lambda t, count: braces(t, torch.zeros(count - t.numel()))
        rows.append("%d, %d, %d, %s, %s, %s, %s, %s, %s" % (
            n_q, balanced, steps, literal(epsilon), pad(torch.stack(weights), 100), pad(out, 20), pad(d_q, 30),
            braces(d_k), braces(d_v)))
    header.table("struct { int n_q, balanced, steps; double epsilon, weights[100], out[20], d_q[30], d_k[30], d_v[20]; "
                 "} rv_golden_attn_centroid[]", rows)


def attn_transport():
    header = Header("attn_transport", "Torch %s in float64 from the formulas, gradients by autograd; inputs from "
                    "grid()." % torch_of().__version__)
    attn_sliced(header)
    attn_centroid(header)
    header.write("attn_transport")


# ---- diffusion ----

def gauss(points, sigma, neighbours):
    """Gaussian weights of all pairs, or of pairs of which one is among the other's nearest; float64."""
    n = len(points)
    square = ((points[:, None] - points[None]) ** 2).sum(2)
    joined = numpy.ones((n, n), dtype=bool)
    if neighbours:
        far = square + numpy.where(numpy.eye(n), numpy.inf, 0.0)
        joined[:] = False
        for i in range(n):
            joined[i, numpy.argsort(far[i], kind="stable")[:neighbours]] = True
        joined |= joined.T
    return numpy.exp(-square / (2 * sigma ** 2)) * joined * (1 - numpy.eye(n))


def laplacian(w, kind):
    d = w.sum(1)
    some = numpy.where(d > 0, d, 1.0)
    left = [numpy.ones_like(d), some ** -0.5, 1 / some][kind]
    right = some ** -0.5 if kind == 1 else numpy.ones_like(d)
    return left[:, None] * (numpy.diag(d) - w) * right[None]


def diffusion():
    """Points grid(1) of 2 numbers, x grid(2)."""
    import scipy.linalg
    header = Header("diffusion", "Scipy %s (linalg.expm) in float64; inputs from grid()." % scipy.__version__)
    rows = []
    for n, neighbours, sigma in ((8, 0, 0.75), (8, 2, 0.75), (5, 1, 2.0)):
        w = gauss(grid(1, n, 2), sigma, neighbours)
        for kind in range(3):
            lap, x = laplacian(w, kind), grid(2, n, 3)
            for t in (0.25, 3.0, 40.0):
                y = scipy.linalg.expm(-t * lap) @ x
                rows.append("%d, %d, %d, %s, %s, %s, {%s}" % (
                    n, neighbours, kind, literal(sigma), literal(t), literal((x * (lap @ x)).sum()),
                    ", ".join(literal(v) for v in list(y.reshape(-1)) + [0.0] * (24 - 3 * n))))
    header.table("struct { int n, neighbours, kind; double sigma, t, energy, y[24]; } rv_golden_heat[]", rows)
    header.write("diffusion")


def attn_diffusion():
    torch = torch_of()
    header = Header("attn_diffusion", "Torch %s (linalg.matrix_exp) in float64, gradients by autograd; inputs from\n"
                    "   grid(). Kind: 0 D - W, 1 symmetric, 2 walk." % torch.__version__)
    rows = []
    n_q, n_k, heads, kv_heads, dim, dim_v = 3, 9, 2, 1, 2, 2
    for kind in range(3):
        for neighbours, times in ((0, (1.0,)), (2, (1.5,)), (2, (0.0, 1.0, 2.0)), (0, (0.0,))):
            q, k, v = leaves(grid(1, n_q, heads, dim), grid(2, n_k, kv_heads, dim), grid(3, n_k, kv_heads, dim_v))
            total = []
            for h in range(heads):
                x = k[:, h * kv_heads // heads]
                joined = torch.tensor((gauss(x.detach().numpy(), 1.0, neighbours) > 0) * 1.0)
                w = torch.exp(-((x[:, None] - x[None]) ** 2).sum(2) / (2 * 0.75 ** 2)) * joined
                d = w.sum(1)
                left = [torch.ones_like(d), d ** -0.5, 1 / d][kind]
                right = d ** -0.5 if kind == 1 else torch.ones_like(d)
                lap = left[:, None] * (torch.diag(d) - w) * right[None]
                heat = x @ q[:, h].T / dim ** 0.5
                total.append(sum(torch.softmax((torch.linalg.matrix_exp(-t * lap) @ heat).T / 0.5, 1)
                                 for t in times) / len(times))
            out = attend(total, v, heads, kv_heads)
            d_q, d_k, d_v = slopes_of(out, q, k, v)
            rows.append("%d, %d, %d, {%s}, %s, %s, %s, %s, %s" % (
                kind, neighbours, len(times), ", ".join(literal(t) for t in (times + (0.0, 0.0))[:3]),
                braces(torch.stack(total)), braces(out), braces(d_q), braces(d_k), braces(d_v)))
    header.table("struct { int kind, neighbours, n_times; double times[3], weights[54], out[12], d_q[12], d_k[18], "
                 "d_v[18]; } rv_golden_attn_diffusion[]", rows)
    header.write("attn_diffusion")


# ---- attention in curved spaces ----

GEO_SIZES = 3, 5, 2, 1, 6, 3  # n_q, n_k, heads, kv_heads, dim, dim_v


class CurvedMeans:
    """What a query's weights [h, i, j] and the values [h, j, dim] give."""
    def __init__(self, torch, geoopt):
        self.torch, self.math = torch, geoopt.manifolds.stereographic.math

    def midpoint(self, w, v, kappa):
        return self.torch.stack([self.torch.stack([
            self.math.weighted_midpoint(v[h], w[h, i], k=self.torch.tensor(kappa)) if kappa else w[h, i] @ v[h]
            for i in range(w.shape[1])]) for h in range(w.shape[0])])

    def tangent(self, w, v, kappa):
        k = self.torch.tensor(kappa)
        return self.math.expmap0(w @ self.math.logmap0(v, k=k), k=k)

    def frechet(self, w, v, kappa):
        """Karcher flow to convergence, autograd through all its steps."""
        k, m = self.torch.tensor(kappa), self.midpoint(w, v, kappa)
        for _ in range(80):
            way = (w[..., None] * self.math.logmap(m[:, :, None], v[:, None], k=k)).sum(2)
            m = self.math.expmap(m, way, k=k)
        return m

    def centroid(self, w, v, kappa):
        """Law et al. (2019), space part."""
        full = self.torch.cat([(v.square().sum(-1, keepdim=True) - 1 / kappa).sqrt(), v], -1)
        s = w @ full
        norm = (s[..., :1].square() - s[..., 1:].square().sum(-1, keepdim=True)).sqrt()
        return s[..., 1:] / norm / (-kappa) ** 0.5

    def sphere(self, w, v, kappa):
        return self.torch.nn.functional.normalize(w @ self.torch.nn.functional.normalize(v, dim=-1),
                                                  dim=-1) / kappa ** 0.5


def lorentz_inner(x, y, kappa):
    time = [(z.square().sum(-1) - 1 / kappa).sqrt() for z in (x, y)]
    return (x * y).sum(-1) - time[0] * time[1]


def curved_kinds(torch, geoopt):
    """Per kind: distances or scores of [h, i, 1, dim] and [h, 1, j, dim], the mean, the curvatures."""
    means, stereo = CurvedMeans(torch, geoopt), geoopt.manifolds.stereographic.math

    def ball(x, y, kappa):
        return -stereo.dist(x, y, k=torch.tensor(kappa)) if kappa else -2 * (x - y).norm(dim=-1)

    def sheet(x, y, kappa):
        return -torch.acosh(kappa * lorentz_inner(x, y, kappa)) / (-kappa) ** 0.5

    def cosine(x, y, kappa):
        return torch.nn.functional.cosine_similarity(x, y, dim=-1)
    return [
        (ball, means.midpoint, (-0.5, -1.0)),
        (ball, means.frechet, (-1.0,)),
        (ball, means.tangent, (-1.0,)),
        (sheet, means.centroid, (-0.5, -2.0)),
        (lambda x, y, k: -sheet(x, y, k).square(), means.centroid, (-1.0,)),
        (lambda x, y, k: -2 / k + 2 * lorentz_inner(x, y, k), means.centroid, (-0.5,)),
        (lambda x, y, k: -torch.acos(cosine(x, y, k)) / k ** 0.5, means.sphere, (1.0, 4.0)),
        (cosine, means.sphere, (1.0,)),
        (ball, means.midpoint, (-1.0, -0.01, 0.0, 0.01, 2.0)),
    ]


def attend_of(torch, score, q, k, causal):
    """Weights [h, i, j] of queries [i, h, dim] and keys [j, h, dim]."""
    s = score(q.permute(1, 0, 2)[:, :, None], k.permute(1, 0, 2)[:, None])
    if causal:
        s = s.masked_fill(torch.ones(*s.shape[1:]).tril(s.shape[2] - s.shape[1]) == 0, -numpy.inf)
    return torch.softmax(s, -1)


def dual_space(torch, ball, means, q, k, v, w, tau, causal):
    def score(x, y):
        return (0.25 * (x @ w[0].T * (y @ w[0].T)).sum(-1) / 6 ** 0.5 + 0.75 * ball(x @ w[1].T, y @ w[1].T, -0.5)) / tau
    weights = attend_of(torch, score, q, k, causal)
    return weights, weights @ v.permute(1, 0, 2)


def lorentz_cascade(torch, ball, means, q, k, v, mix, tau, causal):
    least, most, weights, total = 0.5, 2.0, [], 0

    def radial(x, c, f):
        z = c ** 0.5 * x.norm(dim=-1, keepdim=True)
        return f(z) / z * x
    for h, c in enumerate((least, most)):
        weights.append(attend_of(torch, lambda x, y: -torch.acosh(-c * lorentz_inner(x, y, -c)) / c ** 0.5 / tau,
                                 q[:, h:h + 1], k[:, h:h + 1], causal))
        total = total + mix[h] * radial(means.centroid(weights[-1], v[:, h:h + 1].permute(1, 0, 2), -c)[0], c,
                                        torch.asinh)
    return torch.cat(weights), radial(total, 1.0, torch.sinh)[None]


def mixed_weights(torch, ball, means, q, k, v, none, tau, causal):
    e = attend_of(torch, lambda x, y: (x[..., :2] * y[..., :2]).sum(-1) / 2 ** 0.5 / tau, q, k, causal)
    h = attend_of(torch, lambda x, y: ball(x[..., 2:], y[..., 2:], -0.75) / tau, q, k, causal)
    weights = 0.25 * e + 0.75 * h
    return weights, weights @ v.permute(1, 0, 2)


def mixed_product(torch, ball, means, q, k, v, none, tau, causal):
    def score(x, y):
        return -((x[..., :2] - y[..., :2]).square().sum(-1) + ball(x[..., 2:], y[..., 2:], -0.75).square()).sqrt() / tau
    weights = attend_of(torch, score, q, k, causal)
    return weights, weights @ v.permute(1, 0, 2)


def fused_tangent(torch, ball, means, q, k, v, mix, tau, causal):
    def score(x, y):
        b, kappa, log = mix[:, :, None, None], torch.tensor(-0.75), means.math.logmap0
        return (b[:, 0] * (x[..., :2] * y[..., :2]).sum(-1) / 2 ** 0.5 +
                b[:, 1] * (log(x[..., 2:4], k=kappa) * log(y[..., 2:4], k=kappa)).sum(-1) +
                b[:, 2] * torch.nn.functional.cosine_similarity(x[..., 4:], y[..., 4:], dim=-1)) / tau
    weights = attend_of(torch, score, q, k, causal)
    return weights, weights @ v.permute(1, 0, 2)


def fused_geodesic(torch, ball, means, q, k, v, mix, tau, causal):
    def score(x, y):
        b = mix[:, :, None, None]
        angle = torch.acos(torch.nn.functional.cosine_similarity(x[..., 4:], y[..., 4:], dim=-1)) / 2 ** 0.5
        return -(b[:, 0] * (x[..., :2] - y[..., :2]).square().sum(-1) +
                 b[:, 1] * ball(x[..., 2:4], y[..., 2:4], -0.75).square() + b[:, 2] * angle.square()).sqrt() / tau
    weights = attend_of(torch, score, q, k, causal)
    return weights, weights @ v.permute(1, 0, 2)


def curved_products(header, torch, geoopt):
    n_q, n_k, heads, kv, dim, dim_v = GEO_SIZES
    means, ball, rows = CurvedMeans(torch, geoopt), curved_kinds(torch, geoopt)[0][0], []
    params = [grid(5, 2, 6, 6) * 0.25, grid(5, heads), None, None, numpy.abs(grid(5, heads, 3)) + 0.125,
              numpy.abs(grid(5, heads, 3)) + 0.125]
    for kind, run in enumerate((dual_space, lorentz_cascade, mixed_weights, mixed_product, fused_tangent,
                                fused_geodesic)):
        for causal, tau in ((0, 1.0), (1, 0.25)):
            q, k, v = leaves(grid(1, n_q, heads, dim) * 0.1875, grid(2, n_k, kv, dim) * 0.1875,
                             grid(3, n_k, kv, dim_v) * 0.25)
            p = leaves(params[kind])[0] if params[kind] is not None else None
            w, out = run(torch, ball, means, q, k.repeat_interleave(heads // kv, 1),
                         v.repeat_interleave(heads // kv, 1), p, tau, causal)
            out = out.permute(1, 0, 2)
            (out * torch.tensor(grid(4, *out.shape))).sum().backward()
            rows.append("%d, %d, %s, %s, %s, %s, %s, %s, %s" % (
                kind, causal, literal(tau), braces(out), braces(w), braces(q.grad), braces(k.grad), braces(v.grad),
                braces(p.grad if p is not None else torch.zeros(1))))
    header.table("struct { int kind, causal; double tau, out[18], weights[30], d_q[36], d_k[30], d_v[15], "
                 "d_params[72]; } rv_golden_attn_spaces[]", rows)


def attn_geometric():
    torch = torch_of()
    import geoopt
    n_q, n_k, heads, kv, dim, dim_v = GEO_SIZES
    header = Header("attn_geometric", "Torch %s in float64 and geoopt %s, gradients by autograd; inputs from grid()."
                    % (torch.__version__, geoopt.__version__))
    rows = []
    for kind, (score, mean, kappas) in enumerate(curved_kinds(torch, geoopt)):
        for kappa in kappas:
            for causal, tau in ((0, 1.0), (1, 0.25)):
                q, k, v = leaves(grid(1, n_q, heads, dim) * 0.1875, grid(2, n_k, kv, dim) * 0.1875,
                                 grid(3, n_k, kv, dim_v) * 0.25)
                group = [x.permute(1, 0, 2).repeat_interleave(heads // kv, 0) for x in (k, v)]
                s = score(q.permute(1, 0, 2)[:, :, None], group[0][:, None], kappa) / tau
                if causal:
                    hidden = torch.ones(n_q, n_k).tril(n_k - n_q) == 0
                    s = s.masked_fill(hidden, -numpy.inf)
                w = torch.softmax(s, -1)
                out = mean(w, group[1], kappa).permute(1, 0, 2)
                (out * torch.tensor(grid(4, n_q, heads, dim_v))).sum().backward()
                rows.append("%d, %d, %s, %s, %s, %s, %s, %s, %s" % (
                    kind, causal, literal(kappa), literal(tau), braces(out), braces(w), braces(q.grad),
                    braces(k.grad), braces(v.grad)))
    header.table("struct { int kind, causal; double kappa, tau, out[18], weights[30], d_q[36], d_k[30], d_v[15]; } "
                 "rv_golden_attn_geometric[]", rows)
    curved_products(header, torch, geoopt)
    header.write("attn_geometric")


# ---- attn_sparse ----
def heads():
    """nn.MultiheadAttention with its own weights, and multi-head latent attention from its formulas."""
    torch = torch_of()
    header = Header("attn_heads", "Torch %s in float64, gradients by autograd; inputs from grid()." % torch.__version__)
    rows, heads, dim, n_q, n_k = [], 2, 3, 3, 5
    width = heads * dim
    for case, (kdim, vdim, bias, causal) in enumerate(((6, 6, 1, 0), (6, 6, 0, 0), (5, 4, 1, 0), (5, 4, 0, 1),
                                                       (6, 6, 1, 1))):
        layer = torch.nn.MultiheadAttention(width, heads, bias=bool(bias), kdim=kdim, vdim=vdim, batch_first=True)
        names = [name for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias",
                                   "out_proj.weight", "out_proj.bias") if name in layer.state_dict()]
        state, at = layer.state_dict(), 0
        count = sum(state[name].numel() for name in names)
        flat = grid(9, count) / 4
        for name in names:
            shape = tuple(state[name].shape)
            n = int(numpy.prod(shape))
            state[name] = torch.tensor(flat[at:at + n].reshape(shape))
            at += n
        layer.load_state_dict(state)
        q, k, v = leaves(grid(1, n_q, width), grid(2, n_k, kdim), grid(3, n_k, vdim))
        mask = torch.ones(n_q, n_k, dtype=torch.bool).triu(n_k - n_q + 1) if causal else None
        out, weights = layer(q[None], k[None], v[None], attn_mask=mask, average_attn_weights=False)
        (out[0] * torch.tensor(grid(4, n_q, width))).sum().backward()
        parameters = dict(layer.named_parameters())
        rows.append("%d, %d, %d, %d, %d, %s, %s, %s, %s, %s, %s" % (
            kdim, vdim, bias, causal, count, braces(out), braces(weights), braces(q.grad), braces(k.grad),
            braces(v.grad), braces(*[parameters[name].grad for name in names])))
    header.table("struct { size_t width_k, width_v; int bias, causal; size_t n_params; double out[18], weights[30], "
                 "d_q[18], d_k[30], d_v[30], d_params[168]; } rv_golden_heads[]", rows)
    latent_attention(header, torch)
    header.write("attn_heads")


def turned_pairs(torch, x, first, base):
    """Pairs (2m, 2m + 1) of row i turned by (first + i) base^(-2m / dim); x: [n, ..., dim]."""
    dim = x.shape[-1]
    angle = (first + torch.arange(x.shape[0]))[:, None] * base ** (-torch.arange(0, dim, 2) / dim)[None, :]
    angle = angle.reshape((x.shape[0],) + (1,) * (x.dim() - 2) + (dim // 2,))
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1).flatten(-2)


def latent_attention(header, torch):
    rows, heads, dim, dim_v, width, wide_k, out_width, n_q, n_k = [], 2, 2, 3, 5, 4, 3, 3, 4
    for latent, latent_q, rope, causal in ((3, 0, 4, 1), (3, 4, 2, 0), (4, 2, 0, 1)):
        shapes = ([(latent_q, width)] if latent_q else []) + [
            (heads * (dim + rope), latent_q or width), (latent + rope, wide_k), (heads * (dim + dim_v), latent),
            (out_width, heads * dim_v)]
        count = sum(a * b for a, b in shapes)
        flat, at, weights = grid(9, count) / 2, 0, []
        for a, b in shapes:
            weights.append(torch.tensor(flat[at:at + a * b].reshape(a, b), requires_grad=True))
            at += a * b
        x, y = leaves(grid(1, n_q, width), grid(2, n_k, wide_k))
        past = n_k - n_q if causal else 0
        w_q, w_c, w_u, w_o = weights[-4:]
        u = x @ weights[0].T if latent_q else x
        q = (u @ w_q.T).reshape(n_q, heads, dim + rope)
        c = y @ w_c.T
        kv = (c[:, :latent] @ w_u.T).reshape(n_k, heads, dim + dim_v)
        k_r = turned_pairs(torch, c[:, latent:], 0, 100.0) if rope else c[:, latent:]
        p = turned_pairs(torch, q[..., dim:], past, 100.0) if rope else q[..., dim:]
        logits = (torch.einsum("ihd,jhd->hij", q[..., :dim], kv[..., :dim]) + torch.einsum("ihd,jd->hij", p, k_r))
        logits = logits / (dim + rope) ** 0.5
        if causal:
            hidden = torch.ones(n_q, n_k, dtype=torch.bool).triu(past + 1)
            logits = logits.masked_fill(hidden, float("-inf"))
        w = torch.softmax(logits, -1)
        out = torch.einsum("hij,jhd->ihd", w, kv[..., dim:]).reshape(n_q, heads * dim_v) @ w_o.T
        (out * torch.tensor(grid(4, n_q, out_width))).sum().backward()
        rows.append("%d, %d, %d, %d, %d, %s, %s, %s, %s, %s, %s" % (
            latent, latent_q, rope, causal, count, braces(torch.cat((c[:, :latent], k_r), 1)), braces(out), braces(w),
            braces(x.grad), braces(y.grad), braces(*[t.grad for t in weights])))
    header.table("struct { size_t latent, latent_q, rope; int causal; size_t n_params; double rows[28], out[9], "
                 "weights[24], d_q[15], d_k[16], d_params[160]; } rv_golden_mla[]", rows)


def pair():
    """Additive (Bahdanau) and cosine (Swin V2) attention from their formulas; groups of heads as in attn.h."""
    torch = torch_of()
    header = Header("attn_pair", "Torch %s in float64, gradients by autograd; inputs from grid()." % torch.__version__)
    tables, n_q, n_k, dim, dim_v = ([], []), 3, 4, 3, 2
    for kind in range(2):
        for heads, kv, dim_a, causal, cap in ((1, 1, 3, 0, 0.0), (2, 1, 4, 1, 0.0), (2, 2, 2, 0, 1.5)):
            q, k, v = leaves(grid(1, n_q, heads, dim), grid(2, n_k, kv, dim), grid(3, n_k, kv, dim_v))
            own = [h * kv // heads for h in range(heads)]
            if kind == 0:
                sizes = ((heads, dim_a, dim), (kv, dim_a, dim), (heads, dim_a))
                n = sum(int(numpy.prod(s)) for s in sizes)
                flat, at, w = grid(9, n) / 2, 0, []
                for s in sizes:
                    w.append(torch.tensor(flat[at:at + int(numpy.prod(s))].reshape(s), requires_grad=True))
                    at += int(numpy.prod(s))
                a = torch.einsum("ihd,had->hia", q, w[0])
                b = torch.einsum("jhd,had->hja", k, w[1])[own]
                logits = (torch.tanh(a[:, :, None] + b[:, None]) * w[2][:, None, None]).sum(-1) * 0.75
            else:
                w, = leaves(numpy.array([0.25, 0.0078125])[:heads])
                n, w = heads, [w]
                unit = torch.nn.functional.normalize
                logits = torch.einsum("ihd,jhd->hij", unit(q, dim=-1), unit(k, dim=-1)[:, own])
                logits = logits / w[0].clamp(min=0.01)[:, None, None]
            if cap:
                logits = cap * torch.tanh(logits / cap)
            if causal:
                hidden = torch.ones(n_q, n_k, dtype=torch.bool).triu(n_k - n_q + 1)
                logits = logits.masked_fill(hidden, float("-inf"))
            weights = torch.softmax(logits, -1)
            out = torch.einsum("hij,jhd->ihd", weights, v[:, own])
            (out * torch.tensor(grid(4, n_q, heads, dim_v))).sum().backward()
            tables[kind].append("%d, %d, %d, %d, %s, %d, %s, %s, %s, %s, %s, %s" % (
                heads, kv, dim_a, causal, literal(cap), n, braces(out), braces(weights), braces(q.grad),
                braces(k.grad), braces(v.grad), braces(*[t.grad for t in w])))
    for kind, name in enumerate(("additive", "cosine")):
        header.table("struct { uint32_t heads, kv_heads; size_t dim_a; int causal; double cap; size_t n_params; "
                     "double out[12], weights[24], d_q[18], d_k[24], d_v[16], d_params[48]; } rv_golden_%s[]" % name,
                     tables[kind])
    header.write("attn_pair")


def cache():
    """ONNX's Attention with a past: the first n_past keys are what was appended before."""
    import onnx
    header = Header("kv_cache", "The reference evaluator of ONNX %s, operator Attention in opset 23, float64; inputs "
                    "from grid(), heads before tokens as there." % onnx.__version__)
    rows, dim, dim_v = [], 4, 3
    for heads, kv, n_past, n, causal, cap in ((2, 2, 5, 1, 0, 0.0), (4, 2, 6, 3, 1, 0.0), (3, 1, 40, 2, 1, 2.0)):
        q, k, v = grid(1, 1, heads, n, dim), grid(2, 1, kv, n, dim), grid(3, 1, kv, n, dim_v)
        past_k, past_v = grid(4, 1, kv, n_past, dim), grid(5, 1, kv, n_past, dim_v)
        mask = numpy.zeros((n, n_past + n))
        if causal:
            mask[:, n_past:][numpy.triu_indices(n, 1)] = -numpy.inf
        node = onnx.helper.make_node("Attention", ["q", "k", "v", "m", "pk", "pv"], ["y", "nk", "nv"], softcap=cap)
        y, new_k, new_v = onnx_run(node, 23, {"q": q, "k": k, "v": v, "m": mask, "pk": past_k, "pv": past_v}, 3)
        rows.append("%d, %d, %d, %d, %d, %s, {%s}" % (heads, kv, n_past, n, causal, literal(cap),
                                                    ", ".join(literal(x) for x in y.reshape(-1))))
        assert new_k.shape[2] == new_v.shape[2] == n_past + n
    header.table("struct { uint32_t heads, kv_heads; size_t n_past, n; int causal; double cap, out[36]; } "
                 "rv_golden_kv_cache[]", rows)
    header.write("kv_cache")


def sparse_mask(torch, kind, c, n):
    """What query i sees of key j, as the papers' sets say."""
    i, j = torch.arange(n)[:, None], torch.arange(n)[None, :]
    if kind == 0:
        left = c["window"] - 1 if c["order"] else c["window"] // 2
        right = 0 if c["order"] else c["window"] - 1 - left
        d = c["dilation"]
        seen = (j >= i - left * d) & (j <= i + right * d) & ((i - j) % d == 0)
    elif kind == 2:
        seen = (j >= i - c["window"] // 2) & (j < i - c["window"] // 2 + c["window"])
        seen |= (i < c["n_globals"]) | (j < c["n_globals"])
    elif kind == 3:
        seen = ((i - c["stride"] < j) | ((i - j) % c["stride"] == 0)) & (j <= i)
    elif kind == 4:
        step = c["stride"]
        seen = ((i // step == j // step) | (j % step >= step - c["columns"])) & (j <= i)
    else:
        seen = torch.ones(n, n, dtype=torch.bool)
    return seen & (j <= i) if c["order"] else seen


def sparse_run(torch, kind, c, q, k, v):
    """q: [heads, n, dim], k and v: [1, n, dim]."""
    attend, n = torch.nn.functional.scaled_dot_product_attention, q.shape[1]
    seen = sparse_mask(torch, kind, c, n)
    k, v = k.expand_as(q), v.expand_as(q)
    s = (q @ k.transpose(1, 2)) / q.shape[2] ** 0.5
    if kind == 1:
        total, count, start = torch.zeros_like(q), torch.zeros(n), 0
        while True:
            part = slice(start, min(start + c["window"], n))
            total = total.index_add(1, torch.arange(n)[part], attend(q[:, part], k[:, part], v[:, part]))
            count[part] += 1
            if start + c["window"] >= n:
                return total / count[:, None]
            start += c["stride"]
    if kind in (8, 9):
        worth = (s if kind == 9 else -torch.cdist(q, k)).masked_fill(~seen, -float("inf"))
        best = torch.zeros_like(s, dtype=torch.bool).scatter(2, worth.topk(c["k"], 2).indices, True)
        seen = seen & best
    if kind == 10:
        parts = [slice(t, t + c["block"]) for t in range(0, n, c["block"])]
        a = [s[:, :, part].softmax(2) for part in parts]
        keys = torch.stack([w @ k[:, part] for w, part in zip(a, parts)], 2)
        values = torch.stack([w @ v[:, part] for w, part in zip(a, parts)], 2)
        b = ((q[:, :, None] * keys).sum(3) / q.shape[2] ** 0.5).softmax(2)
        return (b[..., None] * values).sum(2)
    return attend(q, k, v, attn_mask=seen)


def attn_sparse():
    torch = torch_of()
    header = Header("attn_sparse", "Torch %s in float64, gradients by autograd; q, k, v and the slopes by the output "
                    "are grid(1) .. grid(4)." % torch.__version__)
    names = ("order", "window", "dilation", "stride", "columns", "n_globals", "k", "block")
    n, heads, dim, rows = 10, 2, 4, []
    for kind, fields in ((0, {"window": 4, "dilation": 1}), (0, {"window": 3, "dilation": 2, "order": 1}),
                         (1, {"window": 4, "stride": 2}), (1, {"window": 5, "stride": 3}),
                         (2, {"window": 3, "n_globals": 2}), (3, {"stride": 3}), (4, {"stride": 4, "columns": 1}),
                         (8, {"k": 3}), (9, {"k": 3}), (9, {"k": 1}), (10, {"block": 4}), (10, {"block": 3})):
        c = dict(zip(names, (fields.get(name, 0) for name in names)))
        q, k, v = leaves(grid(1, n, heads, dim), grid(2, n, 1, dim), grid(3, n, 1, dim))
        y = sparse_run(torch, kind, c, q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)).transpose(0, 1)
        (y * torch.tensor(grid(4, n, heads, dim))).sum().backward()
        rows.append("%d, %s, %s, %s, %s, %s" % (kind, ", ".join(str(c[name]) for name in names), braces(y),
                                                braces(q.grad), braces(k.grad), braces(v.grad)))
    header.table("struct { int kind, %s; double out[80], d_q[80], d_k[40], d_v[40]; } rv_golden_attn_sparse[]"
                 % ", ".join(names), rows)
    header.write("attn_sparse")


def gnn_graph(which):
    """0 square, 1 and 2 fewer destinations, 3 fewer sources: (rows, columns, lists)."""
    if which == 0:
        return 7, 7, GNN_ROWS
    if which == 3:
        return 7, 4, [[j for j in row if j < 4] for row in GNN_ROWS]
    return 4, 7, GNN_ROWS[:4]


def gnn_loops(torch, index, attr, n):
    """Self loops instead of entries (i, i), with the mean of the row's edge features."""
    kept = index[0] != index[1]
    index, attr = index[:, kept], attr if attr is None else attr[kept]
    if attr is not None:
        means = [attr[index[1] == i].mean(0) if (index[1] == i).any() else torch.zeros(attr.shape[1]) for i in range(n)]
        attr = torch.cat([attr, torch.stack(means)])
    return torch.cat([index, torch.arange(n).repeat(2, 1)], 1), attr


def gnn_case(torch, row):
    """One layer of PyTorch Geometric with parameters in the library's order: C initialiser."""
    from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv
    kind, which, edge_dim, loops, act, mean, share, beta, no_skip = row
    n_dst, n_src, lists = gnn_graph(which)
    heads, c, dim = 2, 3, 5
    own_x = which >= 2
    dim_dst = (5 if share else 4) if own_x else dim
    nnz = sum(map(len, lists))
    x, x_dst, edges = leaves(grid(1, n_src, dim), grid(5, n_dst, dim_dst), grid(3, nnz, max(edge_dim, 1)))
    index = torch.tensor([[j for js in lists for j in js], [i for i, js in enumerate(lists) for _ in js]])
    looped = (loops == 1) if kind == 3 else (loops != 2)
    ins = dim if share or not own_x else (dim, dim_dst)
    more = {"edge_dim": edge_dim} if edge_dim else {}
    if kind == 3:
        layer = TransformerConv(ins, c, heads, concat=not mean, beta=bool(beta), root_weight=not no_skip, **more)
        names = ["lin_key.weight", "lin_key.bias", "lin_query.weight", "lin_query.bias", "lin_value.weight",
                 "lin_value.bias"] + ["lin_edge.weight"] * bool(edge_dim)
        names += [] if no_skip else ["lin_skip.weight", "lin_skip.bias"] + ["lin_beta.weight"] * beta
    elif kind == 1:
        layer = GATv2Conv(ins, c, heads, concat=not mean, add_self_loops=looped, share_weights=bool(share), **more)
        names = ["lin_l.weight", "lin_l.bias"] + ([] if share else ["lin_r.weight", "lin_r.bias"])
        names += ["lin_edge.weight"] * bool(edge_dim) + ["att", "bias"]
    else:
        layer = GATConv(ins, c, heads, concat=not mean, add_self_loops=looped, **more)
        names = ["lin.weight"] if isinstance(ins, int) else ["lin_src.weight", "lin_dst.weight"]
        names += ["lin_edge.weight"] * (kind == 2) + ["att_src", "att_dst"] + ["att_edge"] * (kind == 2) + ["bias"]
    layer = layer.double()
    tensors = dict(layer.named_parameters())
    flat = torch.tensor(grid(2, sum(tensors[name].numel() for name in names)) / 4.0)
    at = 0
    for name in names:
        tensors[name].data = flat[at:at + tensors[name].numel()].reshape(tensors[name].shape).clone()
        tensors[name].grad = None
        at += tensors[name].numel()
    attr = edges if edge_dim else None
    if looped and (kind == 3 or which == 3):  # by hand; the library refuses more destinations than sources
        layer.add_self_loops = False
        index, attr = gnn_loops(torch, index, attr, min(n_src, n_dst))
    pair = x if which == 0 else (x, x_dst if own_x else x[:n_dst])
    out, (seen, alpha) = layer(pair, index, attr, return_attention_weights=True)
    if act:
        out = torch.nn.functional.elu(out)
    (out * torch.tensor(grid(4, *out.shape))).sum().backward()
    entry = {(j, i): e for e, (j, i) in enumerate((j, i) for i, js in enumerate(lists) for j in js)}
    weights, rings = numpy.zeros((heads, nnz)), numpy.zeros((heads, n_dst))
    for e, (j, i) in enumerate(zip(*seen.tolist())):
        if looped and i == j:
            rings[:, i] = alpha[e].detach()
        else:
            weights[:, entry[j, i]] = alpha[e].detach()
    d_params = numpy.concatenate([tensors[name].grad.reshape(-1) for name in names])
    return "%d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %s, %s, %s, %s, %s, %s, %s" % (
        row + (len(d_params), braces(out), braces(torch.tensor(weights)), braces(torch.tensor(rings)), braces(x.grad),
               braces(x_dst.grad if own_x else torch.zeros(1)),
               braces(edges.grad if edge_dim else torch.zeros(1)), braces(torch.tensor(d_params))))


def gnn():
    torch = torch_of()
    import torch_geometric
    header = Header("gnn", "PyTorch Geometric %s, torch %s, in float64, gradients by autograd; inputs from grid()." %
                    (torch_geometric.__version__, torch.__version__))
    cases = [  # kind, graph, edge_dim, loops, act, mean, share, beta, no_skip
        (0, 0, 0, 0, 0, 0, 0, 0, 0), (0, 0, 0, 2, 0, 1, 0, 0, 0), (0, 0, 0, 0, 1, 0, 0, 0, 0),
        (0, 1, 0, 0, 0, 0, 0, 0, 0), (0, 2, 0, 0, 0, 0, 0, 0, 0), (0, 2, 0, 0, 1, 1, 1, 0, 0),
        (0, 3, 0, 0, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 0, 0, 0), (1, 0, 2, 0, 0, 0, 0, 0, 0),
        (1, 0, 2, 0, 1, 0, 1, 0, 0), (1, 1, 0, 0, 0, 0, 1, 0, 0), (1, 2, 2, 0, 0, 0, 0, 0, 0),
        (1, 2, 0, 2, 0, 0, 1, 0, 0), (1, 3, 2, 2, 0, 1, 0, 0, 0), (2, 0, 2, 0, 0, 0, 0, 0, 0),
        (2, 0, 2, 2, 1, 0, 0, 0, 0), (2, 2, 2, 0, 0, 1, 0, 0, 0), (2, 3, 2, 0, 0, 0, 1, 0, 0),
        (3, 0, 0, 0, 0, 0, 0, 0, 0), (3, 0, 2, 0, 0, 0, 0, 0, 0), (3, 0, 0, 0, 0, 0, 0, 1, 0),
        (3, 0, 2, 0, 1, 1, 0, 1, 0), (3, 0, 0, 0, 0, 0, 0, 0, 1), (3, 2, 2, 0, 0, 0, 0, 1, 0),
        (3, 3, 2, 1, 0, 0, 0, 0, 0), (3, 1, 0, 1, 0, 1, 0, 0, 0)]
    header.table("struct { int kind, graph, edge_dim, loops, act, mean, share, beta, no_skip, n_params; "
                 "double out[42], weights[32], rings[14], d_x[35], d_x_dst[35], d_edges[32], d_params[180]; } "
                 "rv_golden_gnn[]", [gnn_case(torch, row) for row in cases])
    header.write("gnn")


def ten_digits(x):
    """What a float can be held against, in half the space."""
    return "{%s}" % ", ".join("%.10g" % value for value in x.detach().reshape(-1).tolist())


def linear_features(torch, kind, x, w, factor, signs, eps):
    """phi as in the papers, without any shift; kinds as in the test: elu, relu, performer, rff."""
    if kind == 0:
        return torch.nn.functional.elu(x) + 1
    if kind == 1:
        return torch.relu(x if w is None else x @ w.T / w.shape[0] ** 0.5) + eps
    x = x * factor ** 0.5
    p, half = x @ w.T, (x * x).sum(-1, keepdim=True) / 2
    if kind == 2:
        p = torch.cat([p, -p], -1) if signs else p
        return torch.exp(p - half) / p.shape[-1] ** 0.5
    return torch.exp(half) * torch.cat([torch.cos(p), torch.sin(p)], -1) / w.shape[0] ** 0.5


def linear_maps(header, torch):
    """The sums over all pairs of query and key, as the definition says; gradients by autograd."""
    n_q, n_k, dim, dim_v, m, heads, kv, rows = 5, 7, 6, 4, 9, 2, 1, []
    for kind in range(4):
        for order in range(3):
            for variant in range(2):
                if kind in (0, 3) and variant:
                    continue
                q, k, v = leaves(grid(1, n_q, heads, dim), grid(2, n_k, kv, dim), grid(3, n_k, kv, dim_v))
                w = None if kind == 1 and variant else torch.tensor(grid(5, m, dim))
                factor = 0.125 if kind == 3 else dim ** -0.5
                eps = 1e-3 if kind == 1 else 0.0
                f_q, f_k = (linear_features(torch, kind, x, w, factor, variant, eps) for x in (q, k))
                kernel = torch.einsum("ihf,jhf->hij", f_q, f_k.repeat_interleave(heads // kv, 1))
                i, j = torch.arange(n_q)[:, None], torch.arange(n_k)[None]
                sees = (i + n_k - n_q >= j) if order == 1 else (i + 1 >= j) if order == 2 else (i + j >= 0)
                kernel = kernel * sees
                whole = kernel.sum(-1, keepdim=True) + (1e-6 if kind == 0 else 0.0)
                weights = kernel / whole
                out = torch.einsum("hij,jhx->ihx", weights, v.repeat_interleave(heads // kv, 1))
                (out * torch.tensor(grid(4, n_q, heads, dim_v))).sum().backward()
                rows.append("%d, %d, %d, %s" % (kind, order, variant, ", ".join(
                    ten_digits(x) for x in (out, weights, torch.log(whole), q.grad, k.grad, v.grad))))
    header.table("struct { int kind, order, variant; double out[40], weights[70], lse[10], d_q[60], d_k[42], "
                 "d_v[28]; } rv_golden_linear[]", rows)


def linear_rules(header, torch):
    """The recurrences in float64, with a state; gradients by autograd."""
    n, dim, dim_v, heads, kv, rows = 5, 4, 3, 4, 2, []
    for rule in range(4):
        for variant in range(2):  # gates per head, betas shared
            q, k, v = leaves(grid(1, n, heads, dim), grid(2, n, kv, dim), grid(3, n, kv, dim_v))
            gates = -numpy.abs(grid(5, n, kv, 1 if variant else dim))
            g, beta, state = leaves(gates, numpy.abs(grid(6, n, 1 if variant else kv)) / 2, grid(7, kv, dim, dim_v))
            s, outs = state, []
            for t in range(n):
                if rule & 1:
                    s = s * torch.exp(g[t])[..., None]
                u = v[t]
                if rule & 2:
                    u = beta[t][:, None] * (u - torch.einsum("hdx,hd->hx", s, k[t] / 2))
                s = s + (k[t] / 2)[..., None] * u[:, None]
                outs.append(0.5 * torch.einsum("hdx,hd->hx", s.repeat_interleave(heads // kv, 0), q[t]))
            out = torch.stack(outs)
            (out * torch.tensor(grid(4, n, heads, dim_v))).sum().backward()
            pad = [torch.zeros(size) if x.grad is None else torch.cat([x.grad.reshape(-1), torch.zeros(size)])[:size]
                   for x, size in ((g, 40), (beta, 10))]
            rows.append("%d, %d, %s" % (rule, variant, ", ".join(
                ten_digits(x) for x in [out, s, q.grad, k.grad * 2, v.grad] + pad + [state.grad])))
    header.table("struct { int rule, variant; double out[60], state[24], d_q[80], d_k[40], d_v[30], d_decay[40], "
                 "d_beta[10], d_state[24]; } rv_golden_rules[]", rows)


def linear_onnx(header):
    """The 14 node tests of the operator LinearAttention, first of the batch, inputs from grid()."""
    cases = [  # rule, heads, kv_heads, gate per head, beta shared, past state, tokens, half, scale
        ("linear", 4, 4, 0, 0, 0, 4, 0, 0.0), ("gated", 4, 4, 0, 0, 0, 4, 0, 0.0), ("gated", 4, 4, 1, 0, 0, 4, 0, 0.0),
        ("delta", 4, 4, 0, 0, 0, 4, 0, 0.0), ("gated_delta", 4, 4, 0, 0, 0, 4, 0, 0.0),
        ("gated_delta", 4, 4, 0, 1, 0, 4, 0, 0.0), ("gated_delta", 8, 4, 0, 0, 0, 4, 0, 0.0),
        ("gated_delta", 8, 1, 0, 0, 0, 4, 0, 0.0), ("gated_delta", 4, 4, 0, 0, 1, 1, 0, 0.0),
        ("gated_delta", 4, 4, 0, 0, 1, 4, 0, 0.0), ("gated_delta", 4, 4, 0, 0, 2, 4, 0, 0.0),
        ("gated_delta", 4, 4, 0, 0, 0, 4, 0, 0.25), ("gated_delta", 8, 4, 0, 0, 0, 4, 1, 0.0),
        ("linear", 4, 4, 0, 0, 0, 1, 0, 0.0)]
    import onnx
    rules, rows = ("linear", "gated", "delta", "gated_delta"), []
    for rule, heads, kv, per_head, shared, past, n, half, scale in cases:
        dtype = numpy.float16 if half else numpy.float32
        key = grid(2, n, kv, 8)
        if "delta" in rule:
            key = key / numpy.sqrt((key * key).sum(-1, keepdims=True))
        feeds = {"query": grid(1, 1, n, heads * 8), "key": key.reshape(1, n, kv * 8), "value": grid(3, 1, n, kv * 8)}
        if past:
            feeds["past"] = grid(7, 1, kv, 8, 8) * (2 - past) / 8
        if "gated" in rule:
            feeds["decay"] = -numpy.abs(grid(5, 1, n, kv * (1 if per_head else 8))) / 8
        if "delta" in rule:
            feeds["beta"] = numpy.abs(grid(6, 1, n, 1 if shared else kv)) / 2
        inputs = [name if name in feeds else "" for name in ("query", "key", "value", "past", "decay", "beta")]
        while not inputs[-1]:
            inputs.pop()
        node = onnx.helper.make_node("LinearAttention", inputs, ["out", "state"], update_rule=rule, scale=scale,
                                     q_num_heads=heads, kv_num_heads=kv)
        out, state = onnx_run(node, 27, {name: x.astype(dtype) for name, x in feeds.items()}, 2)
        size = 4 * heads * 8, kv * 64
        rows.append("%d, %d, %d, %d, %d, %d, %d, %d, %s, {%s}, {%s}" % (
            rules.index(rule), heads, kv, per_head, shared, past, n, half, literal(scale),
            ", ".join("%.8g" % x for x in out.reshape(-1)), ", ".join("%.8g" % x for x in state.reshape(-1))))
        assert out.size <= size[0] and state.size == size[1]
    header.table("struct { int rule, heads, kv_heads, per_head, shared, past, tokens, half; double scale, out[256], "
                 "state[256]; } rv_golden_onnx[]", rows)


def attn_linear():
    import onnx
    torch = torch_of()
    recipe = ("Torch %s in float64, gradients by autograd; inputs from grid().\n   rv_golden_onnx: the reference "
              "evaluator of ONNX %s, in float32." % (torch.__version__, onnx.__version__))
    header = Header("attn_linear", recipe)
    linear_maps(header, torch)
    linear_rules(header, torch)
    linear_onnx(header)
    header.write("attn_linear")


def gated():
    """Heads behind gates, from the formula in attn_gated.h."""
    torch = torch_of()
    header = Header("attn_gated", "Torch %s in float64, gradients by autograd; inputs from grid()." % torch.__version__)
    rows, heads, dim, n_q, n_k, width = [], 4, 2, 4, 5, 8
    for threshold, least, most in ((0.5, 1, 4), (0.375, 2, 2), (0.9375, 1, 4), (0.0009765625, 1, 4)):
        sizes = ((3, width, width), (3, width), (width, width), (width,), (heads, width))
        flat, at, w = grid(9, sum(int(numpy.prod(s)) for s in sizes)) / 4, 0, []
        for s in sizes:
            w.append(torch.tensor(flat[at:at + int(numpy.prod(s))].reshape(s), requires_grad=True))
            at += int(numpy.prod(s))
        x, y = leaves(grid(1, n_q, width), grid(2, n_k, width))
        q, k, v = ((rows_in @ w[0][i].T + w[1][i]).reshape(-1, heads, dim) for i, rows_in in enumerate((x, y, y)))
        o = torch.einsum("hij,jhd->ihd", torch.softmax(torch.einsum("ihd,jhd->hij", q, k) / dim ** 0.5, -1), v)
        g = torch.sigmoid(x @ w[4].T)
        count = (g > threshold).sum(1).clamp(least, most)
        order = torch.argsort(torch.argsort(-g, dim=1, stable=True), dim=1, stable=True)
        kept = g * (order < count[:, None])
        c = heads * kept / kept.sum(1, keepdim=True)
        out = (c[:, :, None] * o).reshape(n_q, width) @ w[2].T + w[3]
        (out * torch.tensor(grid(4, n_q, width))).sum().backward()
        rows.append("%s, %d, %d, %d, %s, %s, %s, %s, %s" % (
            literal(threshold), least, most, at, braces(c), braces(out), braces(x.grad), braces(y.grad),
            braces(*[t.grad for t in w])))
    header.table("struct { double threshold; uint32_t least, most; size_t n_params; double gates[16], out[32], "
                 "d_q[32], d_y[40], d_params[320]; } rv_golden_gated[]", rows)
    header.write("attn_gated")


HEADERS = {"mathx": mathx, "scalar": scalar, "half": half, "distance": distance, "quant": quant,
           "hyperbolic": hyperbolic, "norm": norm, "loss": loss, "optim": optim, "affine": affine,
           "lowrank": lowrank, "info": info, "attn_info": attn_info, "topology": topology,
           "attn_topology": attn_topology, "position": position, "attn_position": attn_position,
           "attn_position_graph": attn_position_graph, "transport": transport, "attn_transport": attn_transport,
           "diffusion": diffusion, "attn_diffusion": attn_diffusion, "attn_geometric": attn_geometric,
           "attn_linear": attn_linear, "attn_sparse": attn_sparse, "attn_heads": heads, "attn_pair": pair,
           "kv_cache": cache, "gnn": gnn, "attn_gated": gated}


def main():
    names = sys.argv[1:] or sorted(HEADERS)
    for name in names:
        if name not in HEADERS:
            sys.exit("golden: no header %s; there are %s" % (name, ", ".join(sorted(HEADERS))))
        HEADERS[name]()


if __name__ == "__main__":
    main()
