// Trigonometric, error and gamma functions of float32, for generated kernels; the head of float.wgsl says how
// they are made and how they get into a kernel.

// Angles ---------------------------------------------------------------------------------------------

// x − quadrant · π/2, with |r| ≤ π/4; the quadrant counts modulo 4.
struct Angle { r: f32, quadrant: u32 }

// The i-th word of the fraction 2/π. (A constant array would be copied by every caller.)
fn two_over_pi(i: u32) -> u32 {
    switch (i) {
        case 0u: { return 0xa2f9836eu; }
        case 1u: { return 0x4e441529u; }
        case 2u: { return 0xfc2757d1u; }
        case 3u: { return 0xf534ddc0u; }
        case 4u: { return 0xdb629599u; }
        case 5u: { return 0x3c439041u; }
        default: { return 0xfe5163abu; }
    }
}

// The 32 bits of 2/π from bit `at` on.
fn two_over_pi_bits(at: u32) -> u32 {
    let word = at / 32u;
    let shift = at % 32u;
    if (shift == 0u) { return two_over_pi(word); }
    return (two_over_pi(word) << shift) | (two_over_pi(word + 1u) >> (32u - shift));
}

// The 64-bit product of two words, low word first.
fn multiply_wide(a: u32, b: u32) -> vec2<u32> {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    let low = al * bl;
    let middle = ah * bl + (low >> 16u);
    let cross = al * bh + (middle & 0xffffu);
    return vec2<u32>(a * b, ah * bh + (middle >> 16u) + (cross >> 16u));
}

// Payne and Hanek (1983): of x · 2/π = M · 2^e · 2/π with the integer M = 24 bits of x, only the bits of
// 2/π that matter modulo 4 and the 64 after them are multiplied.
fn reduce_far_f32(x: f32) -> Angle {
    let bits = bitcast<u32>(x) & 0x7fffffffu;
    let m = (bits & 0x7fffffu) | 0x800000u;
    let e = i32(bits >> 23u) - 150;
    let skip = u32(max(e - 2, 0));
    let p0 = multiply_wide(m, two_over_pi_bits(skip + 64u));
    let p1 = multiply_wide(m, two_over_pi_bits(skip + 32u));
    let p2 = multiply_wide(m, two_over_pi_bits(skip));
    let w1 = p0.y + p1.x;
    let c1 = select(0u, 1u, w1 < p0.y);
    let s2 = p1.y + p2.x;
    let w2 = s2 + c1;
    let w3 = p2.y + select(0u, 1u, s2 < p1.y) + select(0u, 1u, w2 < c1);
    // w3.w2w1… is the product over 2^(e − skip); bring two bits before the point to the top.
    let shift = u32(2 - (e - i32(skip)));
    var high = w2;
    var low = w1;
    if (shift > 0u) {
        high = (w2 >> shift) | (w3 << (32u - shift));
        low = (w1 >> shift) | (w2 << (32u - shift));
    }
    // Two bits of quadrant, then the fraction; from one half on it counts from the next quadrant.
    let fraction = bitcast<i32>((high << 2u) | (low >> 30u));
    let quadrant = (high >> 30u) + select(0u, 1u, fraction < 0);
    let r = (f32(fraction) * 2.3283064e-10 + f32(low << 2u) * 5.4210109e-20) * 1.57079633;
    if (x < 0.0) { return Angle(-r, (4u - quadrant) & 3u); }
    return Angle(r, quadrant & 3u);
}

// Cody and Waite (1980): π/2 in four parts, of which the first three have few bits, so that their
// multiples are exact.
fn reduce_f32(x: f32) -> Angle {
    if (abs(x) > 50000.0) { return reduce_far_f32(x); }
    let k = round(x * 0.63661977);
    let r = ((x - k * 1.5703125) - k * 0.00048351288) - k * 3.1385571e-07;
    return Angle(r - k * 6.0771006e-11, bitcast<u32>(i32(k)) & 3u);
}

fn sin_near_f32(r: f32) -> f32 {
    let z = r * r;
    return r + r * z * (-0.16666667 + z * (0.008333329 + z * (-0.00019839304 + z * 2.7180465e-06)));
}

fn cos_near_f32(r: f32) -> f32 {
    let z = r * r;
    return 1.0 - (0.5 * z - z * z * (0.041666646 + z * (-0.0013887362 + z * 2.443773e-05)));
}

// sin(r + quadrant · π/2).
fn turn_f32(a: Angle) -> f32 {
    let y = select(sin_near_f32(a.r), cos_near_f32(a.r), (a.quadrant & 1u) == 1u);
    return select(y, -y, (a.quadrant & 2u) == 2u);
}

fn sin_f32(x: f32) -> f32 {
    if (isnan_f32(x) || isinf_f32(x)) { return nan_f32(); }
    return turn_f32(reduce_f32(x));
}

fn cos_f32(x: f32) -> f32 {
    if (isnan_f32(x) || isinf_f32(x)) { return nan_f32(); }
    let a = reduce_f32(x);
    return turn_f32(Angle(a.r, a.quadrant + 1u));
}

fn tan_f32(x: f32) -> f32 {
    if (isnan_f32(x) || isinf_f32(x)) { return nan_f32(); }
    let a = reduce_f32(x);
    let s = sin_near_f32(a.r);
    let c = cos_near_f32(a.r);
    if ((a.quadrant & 1u) == 1u) { return -c / s; }
    return s / c;
}

// asin(x) for |x| ≤ ½.
fn asin_near_f32(x: f32) -> f32 {
    let z = x * x;
    return x + x * z * (0.1666666 + z * (0.07500504 + z * (0.044516955 + z * (0.03180772
        + z * (0.014438597 + z * 0.037516464)))));
}

fn asin_f32(x: f32) -> f32 {
    let a = abs(x);
    if (a <= 0.5) { return asin_near_f32(x); }
    if (isnan_f32(x)) { return x; }
    if (a > 1.0) { return nan_f32(); }
    return copysign_f32(1.57079633 - 2.0 * asin_near_f32(sqrt(0.5 - 0.5 * a)), x);
}

fn acos_f32(x: f32) -> f32 {
    let a = abs(x);
    if (a <= 0.5) { return 1.57079633 - asin_near_f32(x); }
    if (isnan_f32(x)) { return x; }
    if (a > 1.0) { return nan_f32(); }
    let y = 2.0 * asin_near_f32(sqrt(0.5 - 0.5 * a));
    return select(3.14159265 - y, y, x > 0.0);
}

fn atan_f32(x: f32) -> f32 {
    if (isnan_f32(x)) { return x; }
    let a = abs(x);
    // Above tan(3π/8) by the complement, above tan(π/8) from π/4.
    var base = 0.0;
    var t = a;
    if (a > 2.41421356) {
        base = 1.57079633;
        t = -1.0 / a;
        if (isinf_f32(a)) { t = 0.0; }
    } else if (a > 0.41421356) {
        base = 0.78539816;
        t = (a - 1.0) / (a + 1.0);
    }
    let z = t * t;
    let p = -0.33333316 + z * (0.19998461 + z * (-0.1424331 + z * (0.105920784 + z * -0.06073611)));
    return copysign_f32(base + (t + t * z * p), x);
}

fn atan2_f32(y: f32, x: f32) -> f32 {
    if (isnan_f32(x)) { return x; }
    if (isnan_f32(y)) { return y; }
    var angle: f32;
    if (isinf_f32(x) && isinf_f32(y)) {
        angle = 0.78539816;
    } else if (abs(x) >= abs(y)) {
        angle = 0.0;
        if (y != 0.0) { angle = atan_f32(abs(y) / abs(x)); }
    } else {
        angle = 1.57079633 - atan_f32(abs(x) / abs(y));
    }
    return copysign_f32(select(angle, 3.14159265 - angle, signbit_f32(x)), y);
}

// Error and gamma functions --------------------------------------------------------------------------

// exp(x²) erfc(x) (1 + 2x) for x ≥ 0.75, a polynomial in (x − 3) / (x + 3).
fn erfc_far_f32(x: f32) -> f32 {
    let t = (x - 3.0) / (x + 3.0);
    let p = 1.253008 + t * (-0.1356211 + t * (-0.047562312 + t * (0.12964492 + t * (-0.119273186
        + t * (0.06831237 + t * (-0.023775158 + t * (0.0024981846 + t * (0.0019066528
        + t * (-0.00067952275 + t * -0.00012761436)))))))));
    // x² exactly as high² + (x − high)(x + high), since its error is multiplied by the exponential.
    let high = bitcast<f32>(bitcast<u32>(x) & 0xfffff000u);
    return exp_f32(-high * high) * exp_f32((high - x) * (high + x)) * p / (1.0 + 2.0 * x);
}

fn erf_f32(x: f32) -> f32 {
    let a = abs(x);
    if (a < 0.875) {
        let z = x * x;
        return x * (1.12837917 + z * (-0.37612635 + z * (0.11283733 + z * (-0.026861586
            + z * (0.005206748 + z * (-0.00082111114 + z * 8.6754204e-05))))));
    }
    if (isnan_f32(x)) { return x; }
    return copysign_f32(1.0 - erfc_far_f32(min(a, 5.0)), x);
}

fn erfc_f32(x: f32) -> f32 {
    if (isnan_f32(x)) { return x; }
    if (x < 0.75) { return 1.0 - erf_f32(x); }
    return erfc_far_f32(min(x, 10.3));
}

// Polynomials in w = −log(1 − x²), as Giles (2010) proposed.
fn erfinv_f32(x: f32) -> f32 {
    if (isnan_f32(x)) { return x; }
    if (abs(x) >= 1.0) { return select(nan_f32(), copysign_f32(inf_f32(), x), abs(x) == 1.0); }
    let w = -log_f32((1.0 - x) * (1.0 + x));
    if (w < 5.0) {
        let t = w - 2.5;
        return x * (1.5014094 + t * (0.24664028 + t * (-0.004177387 + t * (-0.0012527419 + t * (0.00021834444
            + t * (-4.9633454e-06 + t * (-3.4627044e-06 + t * (4.6617012e-07 + t * (2.3232625e-08
            + t * -8.791018e-09)))))))));
    }
    let t = sqrt(w) - 3.0;
    return x * (2.8329768 + t * (1.0016748 + t * (0.009444177 + t * (-0.0076347077 + t * (0.005696173
        + t * (-0.0036094678 + t * (0.0014615942 + t * (-3.3004166e-05 + t * (-0.00029101907
        + t * 9.8500175e-05)))))))));
}

// sin(πx) / π and cos(πx), reduced exactly.
fn sin_pi_f32(x: f32) -> f32 {
    let k = round(2.0 * x);
    return turn_f32(Angle((x - 0.5 * k) * 3.14159265, bitcast<u32>(i32(k)) & 3u));
}

fn lgamma_positive_f32(x: f32) -> f32 {
    if (x >= 3.0) {
        // Stirling's series.
        let i = 1.0 / x;
        let z = i * i;
        let correction = i * (0.083333164 + z * (-0.0027698877 + z * 0.00067897746));
        return (x - 0.5) * (log_f32(x) - 1.0) + (0.41893853 + correction);
    }
    var y = x;
    var shift = 0.0;
    if (x < 0.75) {
        // Γ(x) = Γ(x + 1) / x.
        y = x + 1.0;
        shift = -log_f32(x);
    }
    if (y < 1.5) {
        let t = y - 1.0;
        return shift + t * (-0.5772157 + t * (0.822467 + t * (-0.4006856 + t * (0.2705814 + t * (-0.20738973
            + t * (0.1695339 + t * (-0.14386225 + t * (0.12566291 + t * (-0.114566684 + t * (0.10507559
            + t * (-0.07733188 + t * 0.029183341)))))))))));
    }
    let t = y - 2.0;
    return shift + t * (0.42278433 + t * (0.32246703 + t * (-0.067352295 + t * (0.02058101 + t * (-0.0073857647
        + t * (0.0028883275 + t * (-0.0011898209 + t * (0.00051770057 + t * (-0.00023864974
        + t * (9.582304e-05 + t * -2.0516405e-05))))))))));
}

fn lgamma_f32(x: f32) -> f32 {
    if (isnan_f32(x)) { return x; }
    if (isinf_f32(x) || (x <= 0.0 && floor(x) == x)) { return inf_f32(); }
    if (x > 0.0) { return lgamma_positive_f32(x); }
    let a = -x;
    if (a < 1e-5) { return -log_f32(a); }
    // |Γ(x) Γ(−x)| = π / (|x| |sin πx|).
    let near = a - 2.0 * floor(0.5 * a);
    return 1.14472989 - log_f32(a * abs(sin_pi_f32(near))) - lgamma_positive_f32(a);
}

fn digamma_positive_f32(x: f32) -> f32 {
    if (x >= 6.0) {
        let i = 1.0 / x;
        let z = i * i;
        return log_f32(x) - (0.5 * i + z * (0.083333333 - z * (0.0083333333 - z * 0.003968254)));
    }
    // ψ(y + 1) = ψ(y) + 1/y brings x into [1, 2], where ψ has its root.
    var y = x;
    var shift = 0.0;
    if (y < 1.0) {
        shift = -1.0 / y;
        y += 1.0;
    }
    for (var i = 0; i < 4; i++) {
        if (y > 2.0) {
            y -= 1.0;
            shift += 1.0 / y;
        }
    }
    let t = (y - 1.4616321) - 1.243815e-08;
    return shift + t * (0.9676722 + t * (-0.44276318 + t * (0.2584999 + t * (-0.16394176 + t * (0.10781754
        + t * (-0.072222546 + t * (0.04892544 + t * (-0.03295244 + t * (0.02157435 + t * (-0.016071547
        + t * (0.014448555 + t * -0.007625248)))))))))));
}

fn digamma_f32(x: f32) -> f32 {
    if (isnan_f32(x)) { return x; }
    if (x > 0.0) { return digamma_positive_f32(x); }
    if (x == 0.0) { return copysign_f32(inf_f32(), -x); }
    if (isinf_f32(x) || floor(x) == x) { return nan_f32(); }
    // ψ(x) = ψ(1 − x) − π / tan(πx).
    let a = -x;
    let near = a - 2.0 * floor(0.5 * a);
    return digamma_positive_f32(1.0 + a) + 3.14159265 * sin_pi_f32(near + 0.5) / sin_pi_f32(near);
}
