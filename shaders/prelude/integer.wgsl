// Integers, half floats and conversions, for generated kernels; the head of float.wgsl says how they get
// into a kernel. 64-bit integers are in wide.wgsl.

// Half floats: their bits in the low 16 of a word ---------------------------------------------------

fn f32_from_f16(h: u32) -> f32 {
    let sign = (h & 0x8000u) << 16u;
    let magnitude = h & 0x7fffu;
    let normal = (magnitude << 13u) + select(0x38000000u, 0x70000000u, magnitude >= 0x7c00u);
    // Subnormal ones are normal in float32.
    let small = bitcast<u32>(f32(magnitude) * 5.9604645e-08);
    return bitcast<f32>(sign | select(normal, small, magnitude < 0x400u));
}

// To the nearest, ties to even.
fn f16_from_f32(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) { return sign | 0x7e00u; }
    if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; }
    if (magnitude < 0x38800000u) { return sign | u32(round(abs(x) * 16777216.0)); }
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
}

fn f32_from_bf16(h: u32) -> f32 { return bitcast<f32>(h << 16u); }

// To the nearest, ties to even.
fn bf16_from_f32(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

fn round_f16(x: f32) -> f32 { return f32_from_f16(f16_from_f32(x)); }
fn round_bf16(x: f32) -> f32 { return f32_from_bf16(bf16_from_f32(x)); }

// The pattern after that of a, for half floats a and b that are neither NaN nor equal.
fn next_half(bits: u32, a: f32, b: f32) -> u32 {
    if ((bits & 0x7fffu) == 0u) { return select(1u, 0x8001u, b < a); }
    return select(bits - 1u, bits + 1u, (a < b) == (a > 0.0));
}

fn nextafter_f16(a: f32, b: f32) -> f32 {
    if (isnan_f32(a) || isnan_f32(b)) { return nan_f32(); }
    if (a == b) { return b; }
    return f32_from_f16(next_half(f16_from_f32(a), a, b));
}

fn nextafter_bf16(a: f32, b: f32) -> f32 {
    if (isnan_f32(a) || isnan_f32(b)) { return nan_f32(); }
    if (a == b) { return b; }
    return f32_from_bf16(next_half(bf16_from_f32(a), a, b));
}

// Floats to integers truncate, saturate and take NaN to 0 -------------------------------------------

fn i32_from_f32(x: f32) -> i32 {
    if (isnan_f32(x)) { return 0; }
    if (x >= 2147483648.0) { return 2147483647; }
    if (x <= -2147483648.0) { return -2147483647 - 1; }
    return i32(x);
}

// Of an unevaluated sum, whose low part may take the high one below a whole number or above the next.
fn truncate_pair(x: Pair) -> i32 {
    let whole = trunc(x.hi);
    let rest = (x.hi - whole) + x.lo;
    return i32_from_f32(whole) + i32(select(ceil(rest), floor(rest), x.hi + x.lo >= 0.0));
}

fn u32_from_f32(x: f32) -> u32 {
    if (isnan_f32(x) || x <= 0.0) { return 0u; }
    if (x >= 4294967296.0) { return 4294967295u; }
    return u32(x);
}

// Integers: they wrap, and division by zero gives 0 -------------------------------------------------

fn abs_i32(x: i32) -> i32 { return select(x, -x, x < 0); }
fn sign_i32(x: i32) -> i32 { return select(select(0, 1, x > 0), -1, x < 0); }
fn sign_u32(x: u32) -> u32 { return min(x, 1u); }

fn fmod_i32(a: i32, b: i32) -> i32 {
    // The remainder by −1 is 0, but the quotient of MIN would overflow.
    if (b == 0 || b == -1) { return 0; }
    return a % b;
}

fn remainder_i32(a: i32, b: i32) -> i32 {
    let r = fmod_i32(a, b);
    return select(r, r + b, r != 0 && (r < 0) != (b < 0));
}

fn floor_divide_i32(a: i32, b: i32) -> i32 {
    if (b == 0) { return 0; }
    if (b == -1) { return -a; }
    let q = a / b;
    return select(q, q - 1, q * b != a && (a < 0) != (b < 0));
}

fn fmod_u32(a: u32, b: u32) -> u32 {
    if (b == 0u) { return 0u; }
    return a % b;
}

fn remainder_u32(a: u32, b: u32) -> u32 { return fmod_u32(a, b); }

fn floor_divide_u32(a: u32, b: u32) -> u32 {
    if (b == 0u) { return 0u; }
    return a / b;
}

fn pow_u32(a: u32, b: u32) -> u32 {
    var result = 1u;
    var base = a;
    var left = b;
    for (var i = 0; i < 32; i++) {
        if ((left & 1u) == 1u) { result *= base; }
        base *= base;
        left >>= 1u;
    }
    return result;
}

fn pow_i32(a: i32, b: i32) -> i32 {
    if (b < 0) {
        // The truncated reciprocal of a power: of 1 and −1 themselves, of everything else 0.
        if (a == 1) { return 1; }
        if (a == -1) { return select(1, -1, (b & 1) == 1); }
        return 0;
    }
    return bitcast<i32>(pow_u32(bitcast<u32>(a), bitcast<u32>(b)));
}

fn bitwise_left_shift_i32(a: i32, b: i32) -> i32 {
    if (b < 0 || b > 31) { return 0; }
    return a << u32(b);
}

fn bitwise_right_shift_i32(a: i32, b: i32) -> i32 {
    if (b < 0 || b > 31) { return a >> 31u; }
    return a >> u32(b);
}

fn bitwise_left_shift_u32(a: u32, b: u32) -> u32 {
    if (b > 31u) { return 0u; }
    return a << b;
}

fn bitwise_right_shift_u32(a: u32, b: u32) -> u32 {
    if (b > 31u) { return 0u; }
    return a >> b;
}
