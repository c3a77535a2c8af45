"""The field's methods in numpy, written from their formulas (sections 0 and 2-21 of the definitions) to hold the C++ to. It shares no code
with the library and reads and writes nothing.

A gradient is a flat float32 array g of d elements; u holds one uniform in [0, 1) per element, named by the caller.
Where an encoder decides bytes the arithmetic is float32: y = (|g| / N) * s, rounded down or up with u, decoded to
N * (level / s). Norms and means are sums in float64 stored as float32; models of the error are float64 throughout.
"""
import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

f32 = np.float32
PURPOSE = {"rounding": 1, "sampling": 2, "positions": 3, "signs": 4, "start": 5, "transit": 6, "worker": 7}


# ---- 0. Conventions: randomness, rounding, statistics ---------------------------------------------------------------


def philox(counter, key):
    """Philox4x32-10 of Salmon et al., SC 2011. counter: four arrays of words, key: two words. Returns four arrays."""
    low = np.uint64(0xFFFFFFFF)
    c = [np.asarray(word, np.uint64) for word in counter]
    k = [int(word) for word in key]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), p1 & low,
             (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), p0 & low]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def words(seed, elements, tensor, purpose):
    """The 32-bit word of each element number: word (element mod 4) of the block that element // 4 counts."""
    elements = np.asarray(elements, np.uint64)
    block = elements >> np.uint64(2)
    same = np.zeros_like(elements)
    counter = (block & np.uint64(0xFFFFFFFF), block >> np.uint64(32), same + np.uint64(tensor), same + np.uint64(purpose))
    four = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    return np.choose((elements & np.uint64(3)).astype(np.int64), four).astype(np.uint32)


def uniforms(seed, elements, tensor, purpose):
    """u = (word >> 8) * 2^-24, exact in float32."""
    return (words(seed, elements, tensor, purpose) >> np.uint32(8)).astype(f32) * f32(2.0**-24)


def dither(y, points, u=None):
    """The index of the grid point that y is rounded to: up where u < (y - lo) / (hi - lo), so unbiased; without u the
    nearest, ties up (away from zero for y >= 0). points ascend and enclose y; a y on a point stays there."""
    y, points = np.asarray(y, f32), np.asarray(points, f32)
    lower = np.clip(np.searchsorted(points, y, side="right") - 1, 0, len(points) - 2)
    f = (y - points[lower]) / (points[lower + 1] - points[lower])
    return lower + ((f >= f32(0.5)) if u is None else (np.asarray(u, f32) < f))


def dither_variance(y, points):
    """The variance of dither() at each y, in grid units: (hi - y)(y - lo), which is f(1 - f) on a unit grid."""
    y, points = np.asarray(y, np.float64), np.asarray(points, np.float64)
    lower = np.clip(np.searchsorted(points, y, side="right") - 1, 0, len(points) - 2)
    return (points[lower + 1] - y) * (y - points[lower])


def norm_of(g, kind):
    """A scale as it is stored: float32 of the float64 sum."""
    wide = np.abs(np.asarray(g, np.float64))
    if wide.size == 0:
        return f32(0)
    return f32({"linf": wide.max, "l1": wide.sum, "l2": lambda: math.sqrt((wide * wide).sum())}[kind]())


def over(a, n):
    """a / n in float32, and 0 where n is 0."""
    a, n = np.broadcast_arrays(np.asarray(a, f32), np.asarray(n, f32))
    return np.divide(a, n, out=np.zeros(a.shape, f32), where=n != 0)


def nmse(estimate, g):
    """||estimate - g||^2 / ||g||^2; 0 for an exact copy of zeros."""
    estimate, g = np.asarray(estimate, np.float64).ravel(), np.asarray(g, np.float64).ravel()
    error, energy = ((estimate - g) ** 2).sum(), (g * g).sum()
    return error / energy if energy else (math.inf if error else 0.0)


def cosine(estimate, g):
    """The cosine of the angle between the two; 0 where one of them is zero."""
    estimate, g = np.asarray(estimate, np.float64).ravel(), np.asarray(g, np.float64).ravel()
    lengths = math.sqrt((estimate * estimate).sum()) * math.sqrt((g * g).sum())
    return float(estimate @ g) / lengths if lengths else 0.0


# ---- 2, 17, 20. QSGD, NUQSGD, TernGrad: dithering on a grid of magnitudes -------------------------------------------


@dataclass
class Dithering:
    """Each bucket's magnitudes, as multiples of its norm, rounded to points / scale; codes are signed point numbers."""

    points: np.ndarray
    scale: int
    bucket: int = 0  # elements; 0: one bucket; the last is short, never padded
    norm: str = "linf"

    def starts(self, d):
        return np.arange(0, max(d, 1), self.bucket or max(d, 1))

    def norms(self, g):
        starts = self.starts(len(g))
        return np.array([norm_of(part, self.norm) for part in np.split(g, starts[1:])], f32)

    def spread(self, norms, d):
        return np.repeat(norms, np.diff(np.append(self.starts(d), d)))

    def position(self, g, norms):
        """y of each element: (|g| / N) * s."""
        return over(np.abs(g), self.spread(norms, len(g))) * f32(self.scale)

    def encode(self, g, u=None, norms=None):
        """(codes, norms); u = None rounds to nearest."""
        g = np.asarray(g, f32)
        norms = self.norms(g) if norms is None else norms
        level = dither(self.position(g, norms), self.points, u)
        return np.where(g < 0, -level, level), norms

    def decode(self, codes, norms):
        """N * (level / s), with the sign."""
        fraction = np.sign(codes).astype(f32) * (np.asarray(self.points, f32)[np.abs(codes)] / f32(self.scale))
        return self.spread(norms, len(codes)) * fraction

    def expected_error(self, g, norms=None):
        """E||decoded - g||^2 = sum of (N/s)^2 (hi - y)(y - lo), exactly f(1 - f) (N/s)^2 on a uniform grid."""
        g = np.asarray(g, f32)
        norms = self.norms(g) if norms is None else norms
        step = self.spread(norms, len(g)).astype(np.float64) / self.scale
        return float((step**2 * dither_variance(self.position(g, norms), self.points)).sum())


def qsgd(levels, bucket=0, norm="linf"):
    """section 2: levels 0, 1/s, ..., 1 of the norm."""
    return Dithering(np.arange(levels + 1, dtype=f32), levels, bucket, norm)


def nuqsgd(s, bucket=0, norm="l2"):
    """section 20 (and natural dithering, 18): levels 0, 2^-s, ..., 1/2, 1 of the norm."""
    return Dithering(np.append(0, 2.0 ** np.arange(-s, 1)).astype(f32), 1, bucket, norm)


def terngrad_clip(g, c):
    """section 17: g clipped to +-c sigma, sigma the population standard deviation about the mean; c = 0: unclipped."""
    g = np.asarray(g, f32)
    limit = f32(c * g.astype(np.float64).std()) if c and g.size else f32(np.inf)
    return np.clip(g, -limit, limit)


def terngrad(g, u, c=0, scale=None):
    """(trits, s): t = sign(g) with probability |g| / s, s = max|g| after clipping unless the workers share a larger one."""
    trits, norms = qsgd(1).encode(terngrad_clip(g, c), u, None if scale is None else np.array([scale], f32))
    return trits, norms[0]


def terngrad_expected_error(g, c=0):
    """sum of |g|(s - |g|) over the clipped g, and what clipping took."""
    clipped = terngrad_clip(g, c)
    return qsgd(1).expected_error(clipped) + float(((np.asarray(g, np.float64) - clipped) ** 2).sum())


def elias_omega(n):
    """section 2: the recursive code of n >= 1, as a string of bits."""
    code = "0"
    while n > 1:
        code = f"{n:b}" + code
        n = n.bit_length() - 1
    return code


def elias_sparse(codes):
    """For each non-zero of a bucket: omega(gap to the non-zero before it, at first from -1), sign (1: negative),
    omega(level). Without the 32-bit norm."""
    at = np.flatnonzero(codes)
    sent = zip(np.diff(at, prepend=-1).tolist(), codes[at].tolist())
    return "".join(elias_omega(gap) + "01"[code < 0] + elias_omega(abs(code)) for gap, code in sent)


def elias_dense(codes):
    """For each element: omega(level + 1), then the sign where the level is not 0. Without the 32-bit norm."""
    return "".join(elias_omega(abs(code) + 1) + ("" if code == 0 else "01"[code < 0]) for code in codes.tolist())


# ---- 18. Natural compression ----------------------------------------------------------------------------------------


def natural_exponents(a, u, lowest=-149, highest=127):
    """|x| = m 2^e, m in [1/2, 1), goes to 2^e with probability 2m - 1, else 2^(e-1). Returns the exponents; lowest - 1
    stands for zero. Below 2^lowest it goes to 2^lowest with probability a / 2^lowest, else to zero; above 2^highest it
    saturates (the one place with a bias)."""
    a = np.asarray(a, f32)
    below = a < np.ldexp(f32(1), lowest)
    m, e = np.frexp(a)
    up = np.where(below, np.ldexp(np.where(below, a, f32(0)), -lowest), f32(2) * m - f32(1))
    exponent = np.where(below, lowest - 1, e - 1) + (np.asarray(u, f32) < up)
    return np.minimum(exponent, highest)


def natural(x, u, lowest=-149, highest=127):
    """x rounded to signed powers of two."""
    x = np.asarray(x, f32)
    exponent = natural_exponents(np.abs(x), u, lowest, highest)
    return np.where(exponent < lowest, f32(0), np.copysign(np.ldexp(f32(1), exponent), x))


def natural_expected_error(x, lowest=-149, highest=127):
    a = np.abs(np.asarray(x, np.float64))
    _, e = np.frexp(a)
    lo = np.where(a < 2.0**lowest, 0.0, np.ldexp(1.0, e - 1))
    hi = np.where(a < 2.0**lowest, 2.0**lowest, np.ldexp(1.0, e))
    return float(np.where(a >= 2.0**highest, (a - 2.0**highest) ** 2, (hi - a) * (a - lo)).sum())


# ---- 3. Global-QSGD, standard dithering -----------------------------------------------------------------------------


def gqsgd_norm(workers):
    """G = max over the workers of ||g||_inf."""
    return max(norm_of(g, "linf") for g in workers)


def gqsgd_levels(n, accumulator_bits):
    """s = floor((2^(a-1) - 1) / n): the largest s whose sums cannot overflow. Zero means that a bits are too few."""
    return (2 ** (accumulator_bits - 1) - 1) // n


def gqsgd_std_encode(g, u, norm, s, signed_floor=False):
    """The integers of one worker: SR(s g / G), of the magnitude as everywhere in section 0, or of the signed value as the
    paper writes it. The two agree in distribution, not draw by draw."""
    g = np.asarray(g, f32)
    y = over(np.abs(g), norm) * f32(s)
    if signed_floor:
        return dither(np.copysign(y, g), np.arange(-s, s + 1), u) - s
    level = dither(y, np.arange(s + 1), u)
    return np.where(g < 0, -level, level)


def gqsgd_std_decode(total, norm, n, s):
    """G * (S / (n s)), S the sum over the workers."""
    return f32(norm) * (np.asarray(total).astype(f32) / f32(n * s))


def gqsgd_std_expected_error(workers, s):
    """E||decoded - mean||^2 = (G / (n s))^2 sum over workers and elements of f(1 - f)."""
    norm = gqsgd_norm(workers)
    variance = sum(dither_variance(over(np.abs(g), norm) * f32(s), np.arange(s + 1)).sum() for g in workers)
    return float((float(norm) / (len(workers) * s)) ** 2 * variance)


def gqsgd_published(workers, uniforms_of):
    """The published int8 code: y = 127 g / (n G), added in eight bits, decoded to S G / 127. Returns (S, decoded): where n
    is a power of two from 2 to 128 and all workers sit at +G and round up, the true sum 128 wraps to -128."""
    n, norm = len(workers), gqsgd_norm(workers)
    total = np.zeros(np.shape(workers[0]), np.int64)
    for g, u in zip(workers, uniforms_of):
        y = over(np.abs(np.asarray(g, f32)), norm) * f32(127 / n)
        total += dither(np.copysign(y, g), np.arange(-128, 129), u) - 128
    wrapped = total.astype(np.int8)
    return wrapped, f32(norm) * (wrapped.astype(f32) / f32(127))


# ---- 4. Global-QSGD, exponential dithering --------------------------------------------------------------------------


def gqsgd_exp_encode(g, u, norm, n, bits=7):
    """y = g / (2 n G) naturally rounded to +-2^-E, E in 1 .. 2^bits - 1. Code: the sign above the bits of E; 0 is zero."""
    g = np.asarray(g, f32)
    last = 2**bits - 1
    exponent = -natural_exponents(over(over(np.abs(g), norm), 2 * n), u, lowest=-last, highest=-1)
    return np.where(exponent > last, 0, exponent | (g < 0).astype(int) << bits)


def gqsgd_exp_add(a, b, u, bits=7):
    """The code of a + b, rounded without bias. With E1 <= E2, D = E2 - E1: same sign E1 - 1 with probability 2^-D;
    opposite sign 0 where D = 0, else E1 + 1 with probability 2^(1-D); else E1. The sign is that of the larger."""
    last = 2**bits - 1
    ea, eb = a & last, b & last
    larger, e1, e2 = np.where(ea <= eb, a, b), np.minimum(ea, eb), np.maximum(ea, eb)
    same = (a >> bits) == (b >> bits)
    chance = np.ldexp(f32(1), np.where(same, 0, 1) - (e2 - e1))
    move = np.where(same, -1, 1) * (np.asarray(u, f32) < chance)
    result = np.where(~same & (e1 == e2), 0, np.clip(e1 + move, 1, last) | (larger >> bits) << bits)
    return np.where(ea == 0, b, np.where(eb == 0, a, result))


def gqsgd_exp_tree(codes, transit, bits=7):
    """The reduction: at stride 1, 2, 4, ... worker i with i mod 2 stride = 0 takes in worker i + stride where there is
    one. transit(i, stride) gives the uniforms of that addition."""
    held, stride = list(codes), 1
    while stride < len(held):
        for i in range(0, len(held) - stride, 2 * stride):
            held[i] = gqsgd_exp_add(held[i], held[i + stride], transit(i, stride), bits)
        stride *= 2
    return held[0]


def gqsgd_exp_decode(code, norm, bits=7):
    """The average: +-2^-E * 2nG / n = +-G 2^(1-E)."""
    exponent = code & (2**bits - 1)
    value = np.ldexp(f32(norm), np.minimum(1 - exponent, 0))
    return np.where(exponent == 0, f32(0), np.where(code >> bits, -value, value))


# ---- 5. THC ---------------------------------------------------------------------------------------------------------


def thc_clamp(p=1 / 32):
    """t_p = Phi^-1(1 - p/2): a standard normal leaves [-t_p, t_p] with probability p."""
    return NormalDist().inv_cdf(1 - p / 2)


def thc_cost(a, b):
    """The integral of phi(x) (x - a)(b - x) over [a, b]: the variance that SR between a and b adds to a normal."""
    phi, cdf = NormalDist().pdf, NormalDist().cdf
    return b * phi(b) - a * phi(a) - (a + b) * (phi(b) - phi(a)) - (1 + a * b) * (cdf(b) - cdf(a))


def thc_table_cost(table, t):
    """The variance of SR on a table of integers 0..g spread over [-t, t], for a standard normal kept inside."""
    x = [(2 * entry / table[-1] - 1) * t for entry in table]
    return sum(thc_cost(a, b) for a, b in zip(x, x[1:]))


def thc_table(bits, granularity, t):
    """The symmetric table of 2^bits integers from 0 to the granularity that costs least, by dynamic programming over its
    lower half."""
    x = [(2 * entry / granularity - 1) * t for entry in range(granularity + 1)]
    best = {0: (0.0, [0])}  # last entry -> cost so far, entries
    for _ in range(2 ** (bits - 1) - 1):
        best = {
            entry: min((cost + thc_cost(x[last], x[entry]), half + [entry])
                       for last, (cost, half) in best.items() if last < entry)
            for entry in range(min(best) + 1, (granularity + 1) // 2)
        }
    _, half = min((2 * cost + thc_cost(x[last], x[granularity - last]), half) for last, (cost, half) in best.items())
    return np.array(half + [granularity - entry for entry in reversed(half)])


def hadamard(x, block):
    """The Walsh-Hadamard transform of each block in natural (Sylvester) order, without a factor; its own inverse up to
    1/block. Length a multiple of block, a power of two."""
    y, h = np.array(x, f32), 1
    while h < block:
        y = y.reshape(-1, 2, h)
        y = np.stack((y[:, 0] + y[:, 1], y[:, 0] - y[:, 1]), axis=1)
        h *= 2
    return y.reshape(-1)


def thc_position(p, diagonal, norm, table, t, block):
    """Where each rotated coordinate lies on the integer grid 0..g: z = y sqrt(d2) / N clamped to +-t, then (z + t) g / 2t.
    d2 = len(diagonal), d padded to whole blocks."""
    padded = np.zeros(len(diagonal), f32)
    padded[: len(p)] = p
    z = over(hadamard(padded * diagonal, block), norm) * f32(math.sqrt(len(diagonal) / block))
    z = np.clip(z, -f32(t), f32(t))
    return np.clip((z + f32(t)) * f32(table[-1] / (2 * t)), f32(0), f32(table[-1]))


def thc_encode(p, diagonal, norm, u, table, t, block):
    """The table index of each rotated coordinate; table = 0..2^b - 1 is the uniform THC."""
    return dither(thc_position(p, diagonal, norm, table, t, block), table, u)


def thc_decode(total, n, d, diagonal, norm, table, t, block):
    """(sum of table entries / n - g/2) * 2t/g * N / sqrt(d2), rotated back."""
    granularity, d2 = table[-1], len(diagonal)
    y = (np.asarray(total, np.float64) / n - granularity / 2) * (2 * t / granularity) * float(norm) / math.sqrt(d2)
    return (hadamard(y / math.sqrt(block), block) * diagonal)[:d]


def thc_step(workers, residuals, diagonal, uniforms_of, table, t, block):
    """One round with error feedback: (mean estimate, residuals). e <- p - own decoded value."""
    p = [np.asarray(g, f32) + e for g, e in zip(workers, residuals)]
    norm, d = max(norm_of(x, "l2") for x in p), len(p[0])
    sent = [table[thc_encode(x, diagonal, norm, u, table, t, block)] for x, u in zip(p, uniforms_of)]
    own = [thc_decode(entries, 1, d, diagonal, norm, table, t, block) for entries in sent]
    return thc_decode(sum(sent), len(p), d, diagonal, norm, table, t, block), [x - o for x, o in zip(p, own)]


# ---- 6, 7. PowerSGD and ACP-SGD -------------------------------------------------------------------------------------


def orthonormal(a):
    """Modified Gram-Schmidt in float64, stored as float32; a column that vanishes (1e-16 of the largest) becomes zero."""
    q = np.array(a, np.float64)
    least = 1e-16 * np.sqrt((q * q).sum(axis=0)).max(initial=0.0)
    for j in range(q.shape[1]):
        for i in range(j):
            q[:, j] -= (q[:, i] @ q[:, j]) * q[:, i]
        length = math.sqrt(q[:, j] @ q[:, j])
        q[:, j] = q[:, j] / length if length > least else 0
    return q.astype(f32)


def times(a, b):
    """A product summed in float64 and stored as float32."""
    return (np.asarray(a, np.float64) @ np.asarray(b, np.float64)).astype(f32)


def mean_of(parts):
    return np.mean([np.asarray(part, np.float64) for part in parts], axis=0).astype(f32)


def powersgd(matrices, q, iterations=1, feedback="local"):
    """One step over the workers' n x m matrices (residuals already added) from Q0, m x r: P = M Q averaged and
    orthonormalised, Q = M^T P averaged. Returns (P, Q, estimate, residuals); feedback 'global' subtracts the estimate."""
    for _ in range(iterations):
        p = orthonormal(mean_of([times(m, q) for m in matrices]))
        own = [times(m.T, p) for m in matrices]
        q = mean_of(own)
    estimate = times(p, q.T)
    sent = [times(p, o.T) if feedback == "local" else estimate for o in own]
    return p, q, estimate, [m - s for m, s in zip(matrices, sent)]


def acpsgd_step(step, matrices, residuals, p, q):
    """Even steps send P = (M + E) orth(Q), odd ones Q = (M + E)^T orth(P). Returns (estimate, residuals, p, q): the factor
    that was sent is the workers' mean, the other one is orthonormal; E keeps what the own factor missed."""
    whole = [np.asarray(m, f32) + e for m, e in zip(matrices, residuals)]
    if step % 2 == 0:
        q = orthonormal(q)
        own = [times(m, q) for m in whole]
        p, sent = mean_of(own), [times(o, q.T) for o in own]
    else:
        p = orthonormal(p)
        own = [times(m.T, p) for m in whole]
        q, sent = mean_of(own), [times(p, o.T) for o in own]
    return times(p, q.T), [m - s for m, s in zip(whole, sent)], p, q


# ---- 8, 9, 10. Top-k, threshold, rand-k, DGC ------------------------------------------------------------------------


def kept(d, density):
    """k = max(1, floor(density d)), at most d."""
    return min(d, max(1, math.floor(density * d)))


def topk(g, k):
    """The positions of the k largest magnitudes in index order; of equals the lower index first."""
    return np.sort(np.argsort(-np.abs(np.asarray(g, f32)), kind="stable")[:k])


def threshold(g, least):
    """The positions with |g| >= the threshold."""
    return np.flatnonzero(np.abs(np.asarray(g, f32)) >= f32(least))


def scatter(d, positions, values):
    """d zeros with the values at the positions."""
    g = np.zeros(d, f32)
    g[positions] = values
    return g


def randk(g, positions, scaled):
    """The values sent for a k-subset given by its positions; scaled by d/k they are unbiased."""
    g = np.asarray(g, f32)
    return g[positions] * f32(len(g) / len(positions)) if scaled else g[positions]


def randk_expected_error(g, k, scaled):
    """Over the subsets: (d/k - 1) ||g||^2 scaled, (1 - k/d) ||g||^2 unscaled."""
    g = np.asarray(g, np.float64)
    return float((g * g).sum() * (len(g) / k - 1 if scaled else 1 - k / len(g)))


def dgc_step(u, v, g, momentum, k, nesterov=False):
    """u <- m u + g, v <- v + u (Nesterov: u <- m (u + g), v <- v + u + g); the top k of v are sent and masked in both.
    Returns (positions, values, u, v)."""
    m, g = f32(momentum), np.asarray(g, f32)
    u = m * (u + g) if nesterov else m * u + g
    v = v + u + g if nesterov else v + u
    positions = topk(v, k)
    values = v[positions]
    u[positions] = v[positions] = 0
    return positions, values, u, v


def dgc_warmup(density, epochs):
    """The density of each epoch e = 0..E: max(rho^((e+1)/(E+1)), rho)."""
    return [max(density ** ((e + 1) / (epochs + 1)), density) for e in range(epochs + 1)]


# ---- 11, 12. QLSGD and AC-SGD: a sparsifier, then dithering of what it kept -----------------------------------------


def qlsgd_beta(k, s):
    """QSGD's bound on k kept values: min(k / s^2, sqrt(k) / s)."""
    return min(k / s**2, math.sqrt(k) / s)


def qlsgd(g, u, k, s, scale_beta=False):
    """(positions, codes, N, values): top-k dithered on s levels of its L2 norm; by 1 / (1 + beta) where asked. u belongs
    to the elements of g, not to the kept ones."""
    g, positions = np.asarray(g, f32), topk(g, k)
    codes, norms = qsgd(s, norm="l2").encode(g[positions], np.asarray(u)[positions])
    values = qsgd(s).decode(codes, norms)
    return positions, codes, norms[0], values / f32(1 + qlsgd_beta(k, s)) if scale_beta else values


def qlsgd_sign(g, k):
    """(positions, values): ||top-k||_1 sign / k."""
    g, positions = np.asarray(g, f32), topk(g, k)
    return positions, np.copysign(norm_of(g[positions], "l1") / f32(k), g[positions])


def acsgd_optimum(budget_bits):
    """(b*, k*) where the variance (d/k)(1 + k 4^-b) under k b = C is stationary: 4^b = 2 ln2 C."""
    bits = 0.5 * math.log2(2 * math.log(2) * budget_bits)
    return bits, budget_bits / bits


def acsgd_plan(budget_bits, d, variant):
    """(b, k) in whole bits. author: floor(log2(C)/2 + 1/4), indices paid for; jointsq: k from the fractional b*."""
    optimal_bits, optimal_kept = acsgd_optimum(budget_bits)
    if variant == "paper":
        return math.floor(optimal_bits), optimal_kept
    if variant == "author":
        bits = math.floor(0.5 * math.log2(budget_bits) + 0.25)
        return bits, (budget_bits - 32) / (bits + math.log2(d))
    return math.floor(optimal_bits), math.floor(optimal_kept)


def acsgd(g, u, bits, positions=None, k=None):
    """(positions, values): given positions the paper's unbiased rand-k, dithered on 2^(b-1) - 1 levels of the L2 norm; given
    k JointSQ's variant, top-k on 2^(b-1) levels of the largest."""
    g, paper = np.asarray(g, f32), positions is not None
    positions = positions if paper else topk(g, k)
    method = qsgd(2 ** (bits - 1) - 1, norm="l2") if paper else qsgd(2 ** (bits - 1))
    return positions, method.decode(*method.encode(randk(g, positions, scaled=paper), np.asarray(u)[positions]))


# ---- 13. MCGQ -------------------------------------------------------------------------------------------------------


def mcgq_cdf(g):
    """The cumulated |g| / ||g||_1 in float64; the last is 1."""
    sums = np.cumsum(np.abs(np.asarray(g, np.float64)))
    return sums / sums[-1]


def mcgq(g, samples, r):
    """(signed counts, ||g||_1): N samples at (j + r) / N, each falls to the first element whose cdf exceeds it."""
    g = np.asarray(g, f32)
    norm = norm_of(g, "l1")
    if norm == 0:
        return np.zeros(len(g), np.int64), norm
    hits = np.searchsorted(mcgq_cdf(g), (np.arange(samples) + float(r)) / samples, side="right")
    counts = np.bincount(hits, minlength=len(g))
    return np.where(g < 0, -counts, counts), norm


def mcgq_decode(counts, norm, samples):
    """||g||_1 * (c / N)."""
    return f32(norm) * (counts.astype(f32) / f32(samples))


def mcgq_expected_error(g, samples):
    """Over r: sum of (||g||_1 / N)^2 f(1 - f), f the fraction of N |g| / ||g||_1."""
    a = np.abs(np.asarray(g, np.float64))
    step = a.sum() / samples
    f = np.modf(a / step)[0] if step else a
    return float((step**2 * f * (1 - f)).sum())


# ---- 14, 15, 16. One bit per element --------------------------------------------------------------------------------


def signs(g):
    """+1 or -1 of each element; zero goes to +1."""
    return np.where(np.asarray(g) < 0, -1, 1)


def signsgd_scale(g, scale):
    """The magnitude that a sign decodes to: 1, or with 'mean' the mean of |g|."""
    return f32(np.abs(np.asarray(g, np.float64)).mean()) if scale == "mean" and np.size(g) else f32(1)


def signsgd(g, scale="none"):
    """The decoded signs."""
    return signs(g).astype(f32) * signsgd_scale(g, scale)


def majority_vote(workers, tie="zero", u=None):
    """The sign of the sum of signs; where it is 0: 'zero', 'plus', or 'random', which is + where u < 1/2."""
    total = sum(signs(g) for g in workers)
    draw = {"zero": 0, "plus": 1, "random": 0 if u is None else np.where(np.asarray(u) < 0.5, 1, -1)}[tie]
    return np.where(total == 0, draw, np.sign(total))


def ef_signsgd_step(g, e):
    """p = g + e, sent as mean|p| and its signs. Returns (scale, decoded, residual p - decoded)."""
    p = np.asarray(g, f32) + e
    decoded = signsgd(p, "mean")
    return signsgd_scale(p, "mean"), decoded, p - decoded


def onebit_step(g, e, group="tensor", bucket=0):
    """p = g + e, each element decoded to the mean of its class, p >= 0 or p < 0, in its group: the tensor, a row or a
    column of the matrix [shape[0], rest], or a bucket of so many. Returns (bits, means [group, class -/+], decoded,
    residual); an empty class has mean 0."""
    p = np.asarray(g, f32) + e
    flat, i, columns = p.ravel(), np.arange(p.size), p.size // p.shape[0]
    number = {"tensor": 0 * i, "row": i // columns, "col": i % columns, "bucket": i // max(bucket, 1)}[group]
    cell = 2 * number + (flat >= 0)
    cells = cell.max() // 2 * 2 + 2
    count = np.bincount(cell, minlength=cells)
    means = (np.bincount(cell, flat.astype(np.float64), cells) / np.maximum(count, 1)).astype(f32)
    decoded = means[cell].reshape(p.shape)
    return p >= 0, means.reshape(-1, 2), decoded, p - decoded


# ---- 19. L-GreCo ----------------------------------------------------------------------------------------------------


def lgreco(sizes, errors, most_error):
    """(choice, size, error): the choice of one parameter per layer of the least total size whose errors stay within the
    budget, by trying all; of equal sizes the one of less error. None where nothing fits."""
    return _least(sizes, errors, most_error)


def lgreco_dual(sizes, errors, most_size):
    """(choice, size, error): the least total error whose sizes stay within the budget; of equal errors the smaller."""
    found = _least(errors, sizes, most_size)
    return found and (found[0], found[2], found[1])


def _least(objective, constraint, budget):
    best = None
    for choice in itertools.product(*(range(len(row)) for row in objective)):
        value, cost = (sum(row[c] for row, c in zip(table, choice)) for table in (objective, constraint))
        if cost <= budget and (best is None or (value, cost) < best[1:]):
            best = choice, value, cost
    return best


# ---- 21. Dense baselines --------------------------------------------------------------------------------------------


def fp16(x, saturate=False):
    """IEEE half, round to nearest even; from 65520 on infinite, or +-65504 where asked."""
    x = np.asarray(x, f32)
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
    return np.where(np.isinf(half) & np.isfinite(x), np.copysign(np.float16(65504), half), half) if saturate else half


def bf16_bits(x):
    """The upper 16 bits of float32, rounded to nearest even; a NaN stays one by its quiet bit."""
    bits = np.asarray(x, f32).view(np.uint32).astype(np.uint64)
    rounded = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), bits >> np.uint64(16) | np.uint64(0x40), rounded).astype(np.uint16)


def bf16(x):
    return (bf16_bits(x).astype(np.uint32) << np.uint32(16)).view(f32)
