// The functions of the elementwise table that WGSL lacks or leaves too free, for generated kernels.
// A function bears the name of its row and the type it takes: `exp_f32`, `pow_i32`. Generated text
// gets those that it calls, with what they call (rust/gpu/prelude.rs cuts this file at its top-level
// declarations), so the order is free and unused functions cost nothing.
//
// Drivers differ: built-in `exp`, `log`, `sin` may be off by hundreds of ulp, `x != x` is false for NaN,
// `tanh(200)` may be NaN, subnormals may be flushed. So NaN is tested by bits, and the functions are
// built from + − × and integer operations: arguments are reduced exactly, polynomials are minimax
// fits (Lawson's iteration on Chebyshev nodes), with a relative error below 2⁻²⁵. Measured
// against float64 they stay within a few ulp; the tests hold them to it.

// Bits and classes of float32 ------------------------------------------------------------------------

// A constant that WGSL's constant expressions refuse: NaN, infinity, −0, subnormals.
fn bits_f32(bits: u32) -> f32 { return bitcast<f32>(bits); }
fn nan_f32() -> f32 { return bits_f32(0x7fc00000u); }
fn inf_f32() -> f32 { return bits_f32(0x7f800000u); }

fn isnan_f32(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn isinf_f32(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }
fn signbit_f32(x: f32) -> bool { return (bitcast<u32>(x) >> 31u) != 0u; }

fn copysign_f32(a: f32, b: f32) -> f32 {
    return bitcast<f32>((bitcast<u32>(a) & 0x7fffffffu) | (bitcast<u32>(b) & 0x80000000u));
}

fn sign_f32(x: f32) -> f32 {
    if (x > 0.0) { return 1.0; }
    if (x < 0.0) { return -1.0; }
    return x;
}

fn maximum_f32(a: f32, b: f32) -> f32 {
    if (isnan_f32(a)) { return a; }
    if (isnan_f32(b)) { return b; }
    return select(b, a, a > b);
}

fn minimum_f32(a: f32, b: f32) -> f32 {
    if (isnan_f32(a)) { return a; }
    if (isnan_f32(b)) { return b; }
    return select(b, a, a < b);
}

fn ne_f32(a: f32, b: f32) -> bool { return isnan_f32(a) || isnan_f32(b) || a != b; }

fn nextafter_f32(a: f32, b: f32) -> f32 {
    if (isnan_f32(a) || isnan_f32(b)) { return nan_f32(); }
    if (a == b) { return b; }
    let bits = bitcast<u32>(a);
    if ((bits & 0x7fffffffu) == 0u) { return bitcast<f32>((bitcast<u32>(b) & 0x80000000u) | 1u); }
    // Away from zero counts up in bits, towards it counts down.
    return bitcast<f32>(select(bits - 1u, bits + 1u, (a < b) == (a > 0.0)));
}

// 2^n · x for |n| ≤ 250, in two exact steps.
fn scale_f32(x: f32, n: i32) -> f32 {
    let half = n >> 1u;
    return x * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(n - half + 127) << 23u);
}

// Exponentials ---------------------------------------------------------------------------------------

// e^r for |r| ≤ ln(2)/2.
fn exp_near_f32(r: f32) -> f32 {
    let p = 0.5 + r * (0.16666518 + r * (0.041666202 + r * (0.008369025 + r * 0.0013950726)));
    return 1.0 + (r + r * r * p);
}

fn exp_f32(x: f32) -> f32 {
    if (isnan_f32(x)) { return x; }
    let y = clamp(x, -104.0, 89.0);
    let n = round(y * 1.44269504);
    // ln(2) in two parts, the first of 9 bits, so that n times it is exact.
    let r = (y - n * 0.693359375) - n * -2.12194440e-4;
    return scale_f32(exp_near_f32(r), i32(n));
}

fn exp2_f32(x: f32) -> f32 {
    if (isnan_f32(x)) { return x; }
    let y = clamp(x, -151.0, 129.0);
    let n = round(y);
    return scale_f32(exp_near_f32((y - n) * 0.69314718), i32(n));
}

fn expm1_f32(x: f32) -> f32 {
    if (x > -0.36 && x < 0.43) {
        let p = 0.16666669 + x * (0.041666385 + x * (0.00833247 + x * (0.0013942936 + x * 0.00020434918)));
        return x + x * x * (0.5 + x * p);
    }
    return exp_f32(x) - 1.0;
}

fn sinh_f32(x: f32) -> f32 {
    let a = abs(x);
    if (a < 1.0) {
        let z = x * x;
        let p = 0.16666667 + z * (0.00833335 + z * (0.0001983616 + z * 2.816951e-06));
        return x + x * z * p;
    }
    if (isnan_f32(x)) { return x; }
    // e^|x| alone would overflow before its half does.
    let half = exp_f32(0.5 * min(a, 200.0));
    return copysign_f32(0.5 * half * half - 0.5 / half / half, x);
}

fn cosh_f32(x: f32) -> f32 {
    if (isnan_f32(x)) { return x; }
    let half = exp_f32(0.5 * min(abs(x), 200.0));
    return 0.5 * half * half + 0.5 / half / half;
}

fn tanh_f32(x: f32) -> f32 {
    let a = abs(x);
    if (a < 0.625) {
        let z = x * x;
        let p = -0.3333328 + z * (0.13331442 + z * (-0.053739715 + z * (0.020639088 + z * -0.0057049873)));
        return x + x * z * p;
    }
    if (isnan_f32(x)) { return x; }
    return copysign_f32(1.0 - 2.0 / (exp_f32(2.0 * min(a, 10.0)) + 1.0), x);
}

// Logarithms -----------------------------------------------------------------------------------------

// x = m · 2^e for finite x > 0, with m in [√½, √2).
struct Split { m: f32, e: f32 }

fn split_f32(x: f32) -> Split {
    var bits = bitcast<u32>(x);
    var e = 0;
    if (bits < 0x00800000u) {
        let shift = countLeadingZeros(bits) - 8u;
        bits <<= shift;
        e = -i32(shift);
    }
    // 0x3f3504f3 is √½.
    let k = (bitcast<i32>(bits) - 0x3f3504f3) >> 23u;
    return Split(bitcast<f32>(bits - (bitcast<u32>(k) << 23u)), f32(e + k));
}

// log(1 + f) for 1 + f in [√½, √2].
fn log_near_f32(f: f32) -> f32 {
    let z = f * f;
    let p = 0.33333313 + f * (-0.2500001 + f * (0.20002119 + f * (-0.16667996 + f * (0.14219552
        + f * (-0.12405589 + f * (0.11888163 + f * (-0.11675651 + f * 0.067466386)))))));
    return f - (0.5 * z - f * z * p);
}

// What a logarithm is where there is nothing to compute: at NaN, below and at zero, at infinity.
fn log_special_f32(x: f32) -> f32 {
    if (isnan_f32(x)) { return x; }
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) == 0u) { return -inf_f32(); }
    if (bits == 0x7f800000u) { return x; }
    return nan_f32();
}

fn log_ordinary_f32(x: f32) -> bool {
    let bits = bitcast<u32>(x);
    return bits > 0u && bits < 0x7f800000u;
}

fn log_f32(x: f32) -> f32 {
    if (!log_ordinary_f32(x)) { return log_special_f32(x); }
    let s = split_f32(x);
    return s.e * 0.693359375 + (log_near_f32(s.m - 1.0) + s.e * -2.12194440e-4);
}

fn log2_f32(x: f32) -> f32 {
    if (!log_ordinary_f32(x)) { return log_special_f32(x); }
    let s = split_f32(x);
    let l = log_near_f32(s.m - 1.0);
    // log₂(e) = 1 + 0.442695…; powers of two come out exact.
    return s.e + (l + l * 0.44269504);
}

fn log10_f32(x: f32) -> f32 {
    if (!log_ordinary_f32(x)) { return log_special_f32(x); }
    let s = split_f32(x);
    return s.e * 0.30078125 + (log_near_f32(s.m - 1.0) * 0.43429448 + s.e * 0.00024874567);
}

fn log1p_f32(x: f32) -> f32 {
    if (x > -0.29 && x < 0.41) { return log_near_f32(x); }
    return log_f32(1.0 + x);
}

fn asinh_f32(x: f32) -> f32 {
    let a = abs(x);
    if (isnan_f32(x) || isinf_f32(x)) { return x; }
    if (a > 1e4) { return copysign_f32(log_f32(a) + 0.69314718, x); }
    let z = a * a;
    return copysign_f32(log1p_f32(a + z / (1.0 + sqrt(z + 1.0))), x);
}

fn acosh_f32(x: f32) -> f32 {
    if (x < 1.0) { return nan_f32(); }
    if (x > 1e4) { return log_f32(x) + 0.69314718; }
    if (isnan_f32(x)) { return x; }
    let t = x - 1.0;
    return log1p_f32(t + sqrt(t * (t + 2.0)));
}

fn atanh_f32(x: f32) -> f32 {
    let a = abs(x);
    if (a > 1.0) { return nan_f32(); }
    if (a == 1.0) { return copysign_f32(inf_f32(), x); }
    if (isnan_f32(x)) { return x; }
    return copysign_f32(0.5 * log1p_f32(2.0 * a / (1.0 - a)), x);
}

// Powers ---------------------------------------------------------------------------------------------

// An unevaluated sum of two float32, together at least 44 bits.
// Drivers simplify `(a + b) - a` to `b`, which undoes the classical error-free transformations. Here the
// leading parts are cut by their bits instead, which no driver sees through.
struct Pair { hi: f32, lo: f32 }

fn sum_f32(a: f32, b: f32) -> Pair {
    let s = a + b;
    let hi = bitcast<f32>(bitcast<u32>(s) & 0xfffffffcu);
    let large = select(b, a, abs(a) >= abs(b));
    let small = select(a, b, abs(a) >= abs(b));
    // Where most cancels the sum is exact, elsewhere the first difference is.
    if (abs(s) < 0.5 * abs(large)) { return Pair(hi, s - hi); }
    return Pair(hi, (large - hi) + small);
}

fn add_f32(a: Pair, b: Pair) -> Pair {
    let s = sum_f32(a.hi, b.hi);
    return sum_f32(s.hi, s.lo + (a.lo + b.lo));
}

// The leading 12 bits.
fn leading_f32(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }

// The first part is exact, as a product of 12 by 12 bits; the second may be 2⁻¹¹ of it.
fn product_f32(a: f32, b: f32) -> Pair {
    let ah = leading_f32(a);
    let bh = leading_f32(b);
    return Pair(ah * bh, (ah * (b - bh) + (a - ah) * bh) + (a - ah) * (b - bh));
}

// log₂ of finite x > 0 to about 32 bits.
fn log2_pair_f32(x: f32) -> Pair {
    let s = split_f32(x);
    let f = s.m - 1.0;
    let z = product_f32(f, f);
    let p = 0.33333313 + f * (-0.2500001 + f * (0.20002119 + f * (-0.16667996 + f * (0.14219552
        + f * (-0.12405589 + f * (0.11888163 + f * (-0.11675651 + f * 0.067466386)))))));
    let l = sum_f32(f, -0.5 * z.hi);
    let tail = l.lo - 0.5 * z.lo + f * (f * f) * p;
    // log₂(e) in two parts.
    let high = product_f32(l.hi, 1.442695);
    let low = high.lo + (l.hi * 1.92596299e-8 + tail * 1.442695);
    return add_f32(Pair(s.e, low), Pair(high.hi, 0.0));
}

fn pow_f32(a: f32, b: f32) -> f32 {
    if (b == 0.0 || a == 1.0) { return 1.0; }
    if (isnan_f32(a)) { return a; }
    if (isnan_f32(b)) { return b; }
    let base = abs(a);
    let whole = floor(b) == b;
    // From 2²⁴ on every float is even.
    let odd = whole && abs(b) < 16777216.0 && floor(0.5 * b) != 0.5 * b;
    if (isinf_f32(b)) {
        if (base == 1.0) { return 1.0; }
        return select(0.0, inf_f32(), (base > 1.0) == (b > 0.0));
    }
    var result: f32;
    if (base == 0.0 || isinf_f32(a)) {
        result = select(0.0, inf_f32(), (base == 0.0) == (b < 0.0));
    } else {
        if (a < 0.0 && !whole) { return nan_f32(); }
        let l = log2_pair_f32(base);
        let estimate = b * l.hi;
        if (abs(estimate) > 200.0) {
            result = select(0.0, inf_f32(), estimate > 0.0);
        } else {
            let product = product_f32(b, l.hi);
            let n = round(estimate);
            let r = (product.hi - n) + (product.lo + b * l.lo);
            result = scale_f32(exp_near_f32(r * 0.69314718), i32(n));
        }
    }
    return select(result, -result, odd && signbit_f32(a));
}

fn hypot_f32(a: f32, b: f32) -> f32 {
    if (isinf_f32(a) || isinf_f32(b)) { return inf_f32(); }
    let high = maximum_f32(abs(a), abs(b));
    let low = minimum_f32(abs(a), abs(b));
    if (high == 0.0 || isnan_f32(high)) { return high; }
    // Scaling by powers of two is exact and keeps the squares in range.
    let up = high < 1e-18;
    let down = high > 1e18;
    let scale = select(select(1.0, 5.4210109e-20, down), 1.8446744e19, up);
    let back = select(select(1.0, 1.8446744e19, down), 5.4210109e-20, up);
    let x = high * scale;
    let y = low * scale;
    return sqrt(x * x + y * y) * back;
}

// Division with remainder ----------------------------------------------------------------------------

// Exact by long division of the mantissas, eight bits at a time; at most 35 steps.
fn fmod_f32(a: f32, b: f32) -> f32 {
    var ua = bitcast<u32>(a) & 0x7fffffffu;
    var ub = bitcast<u32>(b) & 0x7fffffffu;
    if (ub == 0u || ub > 0x7f800000u || ua >= 0x7f800000u) { return nan_f32(); }
    if (ua < ub) { return a; }
    var ea = i32(ua >> 23u);
    var eb = i32(ub >> 23u);
    ua &= 0x7fffffu;
    ub &= 0x7fffffu;
    if (ea == 0) {
        let shift = countLeadingZeros(ua) - 8u;
        ua <<= shift;
        ea = 1 - i32(shift);
    }
    if (eb == 0) {
        let shift = countLeadingZeros(ub) - 8u;
        ub <<= shift;
        eb = 1 - i32(shift);
    }
    ub |= 0x800000u;
    var r = (ua | 0x800000u) % ub;
    var left = ea - eb;
    for (var i = 0; i < 35; i++) {
        if (left <= 0) { break; }
        let step = min(left, 8);
        r = (r << u32(step)) % ub;
        left -= step;
    }
    if (r > 0u) {
        let shift = countLeadingZeros(r) - 8u;
        let e = eb - i32(shift);
        r <<= shift;
        r = select(r >> u32(1 - e), (r & 0x7fffffu) | (u32(max(e, 0)) << 23u), e > 0);
    }
    return bitcast<f32>(r | (bitcast<u32>(a) & 0x80000000u));
}

fn remainder_f32(a: f32, b: f32) -> f32 {
    let r = fmod_f32(a, b);
    if (r == 0.0) { return copysign_f32(r, b); }
    return select(r, r + b, (r < 0.0) != (b < 0.0));
}

fn floor_divide_f32(a: f32, b: f32) -> f32 {
    if (b == 0.0) { return a / b; }
    let r = fmod_f32(a, b);
    // a − r is a multiple of b; the quotient of the two is whole but for rounding.
    var q = round((a - r) / b);
    if (r != 0.0 && (r < 0.0) != (b < 0.0)) { q -= 1.0; }
    return select(q, copysign_f32(0.0, a / b), q == 0.0);
}
