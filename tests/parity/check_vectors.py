#!/usr/bin/python3
"""Holds reference.py to every worked vector of section 2-18, 20 and 21, to L-GreCo's (19), to stated numbers around
them, and to the known answers of Random123. One line per vector; exits 1 where one does not hold. Numbers are compared to
the digits that the page prints.

    check_vectors.py
"""
import sys

import numpy as np

import reference as ref

V8 = np.array([0.5, -1.0, 0.25, 2.0, -0.125, 0.0, 3.0, -4.0], np.float32)
U8 = np.array([0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.9375, 0.0625], np.float32)
A, UA = np.array([0.5, -1, 0.25, 2], np.float32), U8[:4]
B, UB = np.array([-0.5, 0.75, 4, 1], np.float32), U8[4:]
M, Q0 = np.array([[1, 2, 0], [3, 0, -1]], np.float32), np.array([[1], [0.5], [-0.5]], np.float32)
mismatches = 0


def check(name, found, expected, tolerance=0.0):
    """tolerance: half a unit of the last digit that the page prints; 0: exact."""
    global mismatches
    found, expected = np.asarray(found), np.asarray(expected)
    holds = found.shape == expected.shape and (
        bool((found == expected).all()) if not tolerance else bool(np.allclose(found, expected, rtol=0, atol=tolerance)))
    mismatches += not holds
    print(f"{'ok      ' if holds else 'MISMATCH'}  {name}")
    if not holds:
        print(f"    found    {found!r}\n    expected {expected!r}")


def philox():
    ones = 0xFFFFFFFF
    check("0 Philox, zeros", np.array(ref.philox((0, 0, 0, 0), (0, 0))), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8])
    check("0 Philox, ones", np.array(ref.philox((ones,) * 4, (ones,) * 2)), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD])
    check("0 Philox, digits of pi",
          np.array(ref.philox((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0))),
          [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1])
    # The same answers through the layout: element = counter words 0 and 1 times four, plus the word wanted.
    check("0 words of four elements", ref.words(0, np.arange(4), 0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8])
    seed, block = 0x299F31D0A4093822, 0x05A308D3243F6A88
    check("0 words of a far element", ref.words(seed, [4 * block + 2], 0x13198A2E, 0x03707344),
          np.array(ref.philox((0x243F6A88, 0x05A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)))[[2]])
    check("0 uniforms", ref.uniforms(0, [0], 0, 0), [(0x6627E8D5 >> 8) / 2**24])
    check("0 norms of V8", [ref.norm_of(V8, "l1"), ref.norm_of(V8, "l2"), ref.norm_of(V8, "linf")],
          [10.875, np.float32(5.5070976929776725), 4])


def qsgd():
    for n, code in {1: "0", 2: "100", 3: "110", 4: "101000", 7: "101110", 8: "1110000", 15: "1111110", 16: "10100100000",
                    100: "1011011001000"}.items():
        check(f"2 Elias omega({n})", ref.elias_omega(n), code)

    def vector(s, norm, codes, values, digits, expected, sparse, dense):
        method = ref.qsgd(s, norm=norm)
        found, norms = method.encode(V8, U8)
        name = f"2 QSGD {norm} s={s}"
        check(f"{name} levels", found, codes)
        check(f"{name} values", method.decode(found, norms), values, digits)
        if expected:
            check(f"{name} expected error", method.expected_error(V8), expected, 2e-7)
        check(f"{name} sparse bits", len(ref.elias_sparse(found)), sparse)
        if dense:
            check(f"{name} dense bits", len(ref.elias_dense(found)), dense)
        return method, found, norms

    method, codes, norms = vector(4, "linf", [0, -1, 0, 2, 0, 0, 3, -4], [0, -1, 0, 2, 0, 0, 3, -4], 0, 0.546875, 27, 26)
    check("2 QSGD linf s=4 actual error", ((method.decode(codes, norms) - V8) ** 2).sum(), 0.328125)
    check("2 QSGD linf s=4 sparse stream", ref.elias_sparse(codes), "10010" "1000100" "1100110" "01101000")
    method, codes, norms = vector(7, "linf", [1, -2, 0, 4, 0, 0, 5, -7],
                                  [0.5714286, -1.1428571, 0, 2.2857143, 0, 0, 2.8571429, -4], 1e-7, 0.37595663, 36, 33)
    check("2 QSGD linf s=7 actual error", ((method.decode(codes, norms) - V8) ** 2).sum(), 0.20567602, 1e-7)
    vector(4, "l2", [0, -1, 0, 2, 0, 0, 2, -3],
           [0, -1.376774, 0, 2.753549, 0, 0, 2.753549, -4.130323], 1e-6, 2.16396902, 24, None)
    _, codes, _ = vector(1, "l2", [0, 0, 0, 1, 0, 0, 0, -1], [0, 0, 0, 5.507098, 0, 0, 0, -5.507098], 1e-6, None, 16, None)
    check("2 QSGD l2 s=1 sparse stream", ref.elias_sparse(codes), "10100000" "10100010")


def gqsgd():
    for floor in (False, True):
        rule = "signed floor" if floor else "magnitudes"
        qa, qb = ref.gqsgd_std_encode(A, UA, 4, 63, floor), ref.gqsgd_std_encode(B, UB, 4, 63, floor)
        check(f"3 Global-QSGD codes ({rule})", [qa, qb], [[8, -16, 4, 32], [-8, 12, 63, 16]])
        check(f"3 Global-QSGD sum and mean ({rule})", np.append(qa + qb, ref.gqsgd_std_decode(qa + qb, 4, 2, 63)),
              [0, -4, 67, 48, 0, -0.12698413, 2.12698413, 1.52380952], 2e-7)
    check("3 Global-QSGD norm and levels", [ref.gqsgd_norm([A, B]), ref.gqsgd_levels(2, 8)], [4, 63])
    total, mean = ref.gqsgd_published([A, B], [UA, UB])
    check("3 published int8 code, sum", total, [0, -4, 67, 48])
    check("3 published int8 code, mean", mean, [0, -0.12598425, 2.11023622, 1.51181102], 2e-7)
    for n in (2, 4, 8, 16, 32, 64, 128):
        total, _ = ref.gqsgd_published([np.ones(1)] * n, [np.zeros(1)] * n)
        check(f"3 published int8 code wraps at n={n}", total, [-128])
    check("3 safe levels never reach 128", [n * ref.gqsgd_levels(n, 8) <= 127 for n in range(1, 128)], [True] * 127)

    a, b = ref.gqsgd_exp_encode(A, UA, 4, 2), ref.gqsgd_exp_encode(B, UB, 4, 2)
    check("4 exponential codes", [a, b], [[5, 132, 6, 3], [133, 4, 2, 4]])
    reduced = ref.gqsgd_exp_tree([a, b], lambda i, stride: UA)
    check("4 reduced codes", reduced, [0, 0, 2, 2])
    check("4 mean", ref.gqsgd_exp_decode(reduced, 4), [0, 0, 2, 2])
    # Every probability of the vector is a multiple of 1/16, so the mean over 16 midpoints per uniform is the expectation.
    grid = (np.arange(16, dtype=np.float32) + 0.5) / 16
    draws = [np.tile(axis.ravel()[:, None], 4).ravel() for axis in np.meshgrid(grid, grid, grid)]
    codes = [ref.gqsgd_exp_encode(np.tile(g, 4096), u, 4, 2) for g, u in zip((A, B), draws)]
    sums = ref.gqsgd_exp_decode(ref.gqsgd_exp_add(codes[0], codes[1], draws[2]), 4)
    check("4 the expectation is the mean", sums.reshape(-1, 4).mean(axis=0, dtype=np.float64), [0, -0.125, 2.125, 1.5])
    order = []
    ref.gqsgd_exp_tree([a] * 6, lambda i, stride: order.append((i, i + stride)) or UA)
    check("4 tree order of six workers", order, [(0, 1), (2, 3), (4, 5), (0, 2), (0, 4)])


def thc():
    diagonal, t, n = np.array([1, -1, 1, 1, -1, 1, -1, -1], np.float32), ref.thc_clamp(), ref.norm_of(V8, "l2")
    check("5 THC clamp for p = 1/32", t, 2.1538746940614564, 1e-15)
    rotated = ref.hadamard(V8 * diagonal, 8)
    check("5 THC rotated", rotated / np.sqrt(8),
          [1.723573, -3.226175, -0.574524, 2.96101, 0.928078, 1.635184, 0.044194, -2.077126], 1e-6)
    check("5 THC z", rotated / n, [0.885221, -1.656953, -0.295074, 1.520765, 0.476658, 0.839825, 0.022698, -1.066805], 1e-6)
    table30 = np.array([0, 3, 5, 7, 9, 11, 13, 14, 16, 17, 19, 21, 23, 25, 27, 30])
    table34 = np.array([0, 3, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 31, 34])
    for name, table, indices, values, error in (
            ("uniform", np.arange(16), [11, 2, 6, 13, 9, 11, 7, 4],
             [0.59308, -0.59308, 0.59308, 2.17463, -0.19769, 0.19769, 2.9654, -4.15156], 0.390980),
            ("table g=30", table30, [11, 1, 6, 14, 10, 11, 7, 4],
             [0.69193, -0.69193, 0.09885, 2.47117, -0.09885, 0.09885, 3.26194, -3.85502], 0.476677)):
        sent = ref.thc_encode(V8, diagonal, n, U8, table, t, 8)
        decoded = ref.thc_decode(table[sent], 1, 8, diagonal, n, table, t, 8)
        check(f"5 THC {name} indices", sent, indices)
        check(f"5 THC {name} values", decoded, values, 1e-5)
        check(f"5 THC {name} error", ((decoded.astype(np.float64) - V8) ** 2).sum(), error, 2e-6)
    check("5 THC table of g=30 is the best symmetric one", ref.thc_table(4, 30, t), table30)
    check("5 THC table of g=34 is the best one", ref.thc_table(4, 34, t), table34)
    # The page's last digit is that of a coarse quadrature: the integrals are .01307459 and .01331934 in closed form.
    check("5 THC cost of the g=30 table", ref.thc_table_cost(table30, t), 0.0130748, 3e-7)
    check("5 THC cost of the uniform table", ref.thc_table_cost(range(16), t), 0.0133195, 3e-7)


def low_rank():
    p, q, estimate, (residual,) = ref.powersgd([M], Q0)
    check("6 PowerSGD M Q0", ref.times(M, Q0), [[2], [3.5]])
    check("6 PowerSGD P", p.ravel(), [0.496139, 0.868243], 1e-6)
    check("6 PowerSGD Q", q.ravel(), [3.100868, 0.992278, -0.868243], 1e-6)
    check("6 PowerSGD estimate", estimate, [[1.538462, 0.492308, -0.430769], [2.692308, 0.861538, -0.753846]], 1e-6)
    check("6 PowerSGD error", (residual.astype(np.float64) ** 2).sum(), 3.646154, 1e-6)
    check("6 PowerSGD error is ||M||^2 - ||Q||^2", (M**2).sum() - (q.astype(np.float64) ** 2).sum(), 3.646154, 2e-6)
    estimate, residuals, p, q = ref.acpsgd_step(0, [M], [0 * M], np.zeros((2, 1)), Q0)
    check("7 ACP-SGD step 0 factors", np.append(q, p), [0.816497, 0.408248, -0.408248, 1.632993, 2.857738], 1e-6)
    check("7 ACP-SGD step 0 out", estimate, [[1.333333, 0.666667, -0.666667], [2.333333, 1.166667, -1.166667]], 1e-6)
    check("7 ACP-SGD step 0 E", residuals[0], [[-0.333333, 1.333333, 0.666667], [0.666667, -1.166667, 0.166667]], 1e-6)
    estimate, residuals, p, q = ref.acpsgd_step(1, [M], residuals, p, q)
    check("7 ACP-SGD step 1 factors", np.append(p, q), [0.496139, 0.868243, 3.514317, 0.640846, -0.392777], 1e-6)
    check("7 ACP-SGD step 1 out", estimate, [[1.74359, 0.317949, -0.194872], [3.051282, 0.55641, -0.341026]], 1e-6)
    check("7 ACP-SGD step 1 E", residuals[0], [[-1.076923, 3.015385, 0.861538], [0.615385, -1.723077, -0.492308]], 1e-6)


def sparse():
    at = ref.topk(V8, 3)
    check("8 top-k", np.append(at, V8[at]), [3, 6, 7, 2, 3, -4])
    check("8 top-k dropped energy", ref.nmse(ref.scatter(8, at, V8[at]), V8), 0.0437918599, 6e-11)
    check("8 ties go to the lower index", ref.topk([1, -2, 2, 1, -1], 3), [0, 1, 2])
    check("9 rand-k scaled", ref.randk(V8, [1, 3, 6], scaled=True), 8 / 3 * np.array([-1, 2, 3]), 1e-6)
    check("9 rand-k expected factor", ref.randk_expected_error(V8, 3, scaled=True) / (V8**2).sum(), 5 / 3, 1e-12)
    zero = np.zeros(4, np.float32)
    positions, values, u, v = ref.dgc_step(zero, zero, [1, -0.2, 0.3, 0.1], 0.9, 1)
    check("10 DGC first step", np.append(positions, values), [0, 1])
    masked = np.copy(u)
    positions, values, u, v = ref.dgc_step(u, v, [0.5, -0.4, 0.1, 0.2], 0.9, 1)
    check("10 DGC second step", np.append(positions, values), [1, -0.78], 1e-6)
    check("10 DGC state after masking", [masked, u, v],
          [[0, -0.2, 0.3, 0.1], [0.5, 0, 0.37, 0.29], [0.5, 0, 0.67, 0.39]], 1e-6)
    densities = np.array([0.316, 0.1, 0.0316, 0.01, 0.00316, 0.001])
    check("10 DGC warm-up", ref.dgc_warmup(0.001, 5) / densities, np.ones(6), 2e-3)
    positions, codes, norm, values = ref.qlsgd(V8, U8, 4, 3)
    check("11 QLSGD positions and codes", np.append(positions, codes), [1, 3, 6, 7, -1, 1, 1, -3])
    check("11 QLSGD norm and beta", [norm, ref.qlsgd_beta(4, 3)], [5.477225575, 4 / 9], 3e-7)
    check("11 QLSGD values", values, [-1.825742, 1.825742, 1.825742, -5.477226], 1e-6)
    check("11 QLSGD values over 1 + beta", ref.qlsgd(V8, U8, 4, 3, True)[3], [-1.263975, 1.263975, 1.263975, -3.791925], 1e-6)
    for budget, optimum, bits, kept, author in ((102400, 8.557545, 8, 11966, (8, 3664.96)),
                                                (1024000, 10.218509, 10, 100210, (10, 34210.30)),
                                                (32000, 7.718509, 7, 4145, (7, 1187.01))):
        check(f"12 AC-SGD C={budget} b*", ref.acsgd_optimum(budget)[0], optimum, 6e-7)
        check(f"12 AC-SGD C={budget} paper bits", ref.acsgd_plan(budget, 10**6, "paper")[0], bits)
        check(f"12 AC-SGD C={budget} JointSQ", ref.acsgd_plan(budget, 10**6, "jointsq"), (bits, kept))
        check(f"12 AC-SGD C={budget} author, d=10^6", ref.acsgd_plan(budget, 10**6, "author"), author, 6e-3)
    check("13 MCGQ cdf", ref.mcgq_cdf(V8), [0.045977, 0.137931, 0.16092, 0.344828, 0.356322, 0.356322, 0.632184, 1], 6e-7)
    counts, norm = ref.mcgq(V8, 8, 0.5)
    check("13 MCGQ counts", np.abs(counts), [0, 1, 0, 2, 0, 0, 2, 3])
    check("13 MCGQ values", ref.mcgq_decode(counts, norm, 8), [0, -1.359375, 0, 2.71875, 0, 0, 2.71875, -4.078125])


def one_bit():
    votes = [[0.5, -1, 0.2], [-0.1, -2, 0.3], [0.4, 0.7, -0.9]]
    check("14 sum of signs", sum(ref.signs(g) for g in votes), [1, -1, 1])
    check("14 majority vote", ref.majority_vote(votes), [1, -1, 1])
    check("14 ties", [ref.majority_vote([[1], [-1]], tie, [0.75]) for tie in ("zero", "plus", "random")], [[0], [1], [-1]])
    scale, _, e = ref.ef_signsgd_step([1, -0.25, 0.5, 0.25], np.zeros(4, np.float32))
    check("15 EF-signSGD first step", np.append(scale, e), [0.5, 0.5, 0.25, 0, -0.25])
    scale, decoded, left = ref.ef_signsgd_step([0.5, -0.5, 0.25, 0.5], e)
    check("15 EF-signSGD second step", np.append(scale, left), [0.4375, 0.5625, 0.1875, -0.1875, -0.1875])
    check("15 EF-signSGD second p", decoded + left, [1, -0.25, 0.25, 0.25])
    bits, means, _, residual = ref.onebit_step(V8, np.zeros(8, np.float32))
    check("16 1-bit means", means, [[-1.7083333, 1.15]], 1e-7)
    check("16 1-bit residual", residual, [-0.65, 0.7083333, -0.9, 0.85, 1.5833333, -1.15, 1.85, -2.2916667], 2e-7)
    check("16 1-bit bits", bits, V8 >= 0)


def ternary_and_natural():
    trits, scale = ref.terngrad(V8, U8)
    check("17 TernGrad", np.append(scale, trits), [4, 0, 0, 0, 1, 0, 0, 0, -1])
    check("17 TernGrad expected error", ref.terngrad_expected_error(V8), 13.171875)
    check("17 TernGrad sigma and mean", [V8.astype(np.float64).std(), V8.mean()], [1.94548506, 0.078125], 6e-9)
    check("17 TernGrad c=2.5 takes nothing", ref.terngrad_clip(V8, 2.5), V8)
    trits, scale = ref.terngrad(V8, U8, c=1)
    check("17 TernGrad c=1 scale", scale, 1.94548506, 1e-7)
    check("17 TernGrad c=1", trits, [0, -1, 0, 1, 0, 0, 1, -1])
    x = np.array([0.75, -1.5, 0.3, 5, -0.1, 1, 0, -3], np.float32)
    check("18 natural", ref.natural(x, U8), [0.5, -2, 0.25, 8, -0.0625, 1, 0, -4])
    relative = ref.natural_expected_error(x) / (x.astype(np.float64) ** 2).sum()
    check("18 natural expected relative error", relative, 0.1140373, 6e-8)
    check("18 natural worst case is 1/8", ref.natural_expected_error([4 / 3]) / (4 / 3) ** 2, 1 / 8, 1e-12)


def allocation_and_levels():
    sizes, errors = [[10, 20, 40], [100, 200, 400]], [[4, 2, 0.5], [3, 1.5, 0.4]]
    choice, size, error = ref.lgreco(sizes, errors, 3.5)
    check("19 L-GreCo optimum", ([row[c] for row, c in zip(sizes, choice)], [size, error]), [[40, 100], [140, 3.5]])
    check("19 L-GreCo dual", ref.lgreco_dual(sizes, errors, 220)[2], 3.5)
    method = ref.nuqsgd(3)
    check("20 NUQSGD levels", method.points, [0, 1 / 8, 1 / 4, 1 / 2, 1])
    codes, norms = method.encode(V8, U8)
    check("20 NUQSGD codes", codes, [1, -2, 0, 3, 0, 0, 3, -4])
    check("20 NUQSGD values", method.decode(codes, norms),
          [0.688387, -1.376774, 0, 2.753549, 0, 0, 2.753549, -5.507098], 1e-6)


def dense():
    check("21 fp16", ref.fp16([0.1, 65519, 6e-8]), [0.0999755859375, 65504, 5.960464477539063e-08])
    check("21 fp16 from 65520", [ref.fp16([65520]), ref.fp16([65520], saturate=True)], [[np.inf], [65504]])
    check("21 bf16", ref.bf16([0.1, 3.14159265, 1.00390625, 1.01171875, 65519]),
          [0.10009765625, 3.140625, 1.0, 1.015625, 65536])
    nans = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    check("21 bf16 keeps NaN", np.isnan(ref.bf16(nans)), [True, True])


for section in (philox, qsgd, gqsgd, thc, low_rank, sparse, one_bit, ternary_and_natural, allocation_and_levels, dense):
    section()
sys.exit(mismatches > 0)
