// 64-bit integers, made of what native.wgsl or pairs.wgsl has: the former is for devices with SHADER_INT64, the
// latter for all others (rust/gpu/prelude.rs). They wrap, and division by zero gives 0.

fn ne_zero_i64(x: i64) -> bool { return (low_i64(x) | high_i64(x)) != 0u; }
fn ne_zero_u64(x: u64) -> bool { return (low_u64(x) | high_u64(x)) != 0u; }
fn negative_i64(x: i64) -> bool { return (high_i64(x) >> 31u) != 0u; }

fn neg_i64(x: i64) -> i64 { return sub_i64(make_i64(0u, 0u), x); }
fn neg_u64(x: u64) -> u64 { return sub_u64(make_u64(0u, 0u), x); }
fn bitwise_not_i64(x: i64) -> i64 { return make_i64(~low_i64(x), ~high_i64(x)); }
fn bitwise_not_u64(x: u64) -> u64 { return make_u64(~low_u64(x), ~high_u64(x)); }

fn abs_i64(x: i64) -> i64 { return select_i64(x, neg_i64(x), negative_i64(x)); }
fn magnitude_i64(x: i64) -> u64 { return u64_from_i64(abs_i64(x)); }
fn sign_u64(x: u64) -> u64 { return make_u64(select(0u, 1u, ne_zero_u64(x)), 0u); }

fn sign_i64(x: i64) -> i64 {
    if (negative_i64(x)) { return make_i64(0xffffffffu, 0xffffffffu); }
    return make_i64(select(0u, 1u, ne_zero_i64(x)), 0u);
}

fn maximum_i64(a: i64, b: i64) -> i64 { return select_i64(a, b, lt_i64(a, b)); }
fn minimum_i64(a: i64, b: i64) -> i64 { return select_i64(a, b, lt_i64(b, a)); }
fn maximum_u64(a: u64, b: u64) -> u64 { return select_u64(a, b, lt_u64(a, b)); }
fn minimum_u64(a: u64, b: u64) -> u64 { return select_u64(a, b, lt_u64(b, a)); }

// Of floats: they truncate, saturate and take NaN to 0 ----------------------------------------------

fn u64_from_f32(x: f32) -> u64 {
    if (isnan_f32(x) || x <= 0.0) { return make_u64(0u, 0u); }
    if (x >= 18446744073709551616.0) { return make_u64(0xffffffffu, 0xffffffffu); }
    // Both steps are exact: a scaling by a power of 2, and a difference of neighbours.
    let high = floor(x * 2.3283064365386963e-10);
    return make_u64(u32(x - high * 4294967296.0), u32(high));
}

fn i64_from_f32(x: f32) -> i64 {
    if (x >= 9223372036854775808.0) { return make_i64(0xffffffffu, 0x7fffffffu); }
    if (x <= -9223372036854775808.0) { return make_i64(0u, 0x80000000u); }
    let magnitude = i64_from_u64(u64_from_f32(abs(x)));
    return select_i64(magnitude, neg_i64(magnitude), x < 0.0);
}

fn f32_from_i64(x: i64) -> f32 {
    let magnitude = f32_from_u64(magnitude_i64(x));
    return select(magnitude, -magnitude, negative_i64(x));
}

// Quotients ----------------------------------------------------------------------------------------

fn floor_divide_u64(a: u64, b: u64) -> u64 {
    if (!ne_zero_u64(b)) { return b; }
    return quotient_u64(a, b);
}

fn fmod_u64(a: u64, b: u64) -> u64 {
    if (!ne_zero_u64(b)) { return b; }
    return sub_u64(a, mul_u64(quotient_u64(a, b), b));
}

fn remainder_u64(a: u64, b: u64) -> u64 { return fmod_u64(a, b); }

// Of magnitudes, so that MIN and −1 are nothing special.
fn fmod_i64(a: i64, b: i64) -> i64 {
    let r = i64_from_u64(fmod_u64(magnitude_i64(a), magnitude_i64(b)));
    return select_i64(r, neg_i64(r), negative_i64(a));
}

fn remainder_i64(a: i64, b: i64) -> i64 {
    let r = fmod_i64(a, b);
    return select_i64(r, add_i64(r, b), ne_zero_i64(r) && negative_i64(r) != negative_i64(b));
}

fn floor_divide_i64(a: i64, b: i64) -> i64 {
    if (!ne_zero_i64(b)) { return b; }
    let q = i64_from_u64(quotient_u64(magnitude_i64(a), magnitude_i64(b)));
    if (negative_i64(a) == negative_i64(b)) { return q; }
    let down = neg_i64(q);
    return select_i64(sub_i64(down, make_i64(1u, 0u)), down, eq_i64(mul_i64(down, b), a));
}

// Powers and shifts --------------------------------------------------------------------------------

fn pow_u64(a: u64, b: u64) -> u64 {
    var result = make_u64(1u, 0u);
    var base = a;
    for (var i = 0u; i < 64u; i++) {
        let word = select(low_u64(b), high_u64(b), i >= 32u);
        if (((word >> (i & 31u)) & 1u) == 1u) { result = mul_u64(result, base); }
        base = mul_u64(base, base);
    }
    return result;
}

fn pow_i64(a: i64, b: i64) -> i64 {
    if (negative_i64(b)) {
        // The truncated reciprocal of a power: of 1 and −1 themselves, of everything else 0.
        let one = make_i64(1u, 0u);
        if (eq_i64(a, one)) { return one; }
        if (eq_i64(a, neg_i64(one))) { return select_i64(one, a, (low_i64(b) & 1u) == 1u); }
        return make_i64(0u, 0u);
    }
    return i64_from_u64(pow_u64(u64_from_i64(a), u64_from_i64(b)));
}

// The distance of a shift, or 64 where it is over all.
fn distance_u64(b: u64) -> u32 { return select(64u, low_u64(b), high_u64(b) == 0u && low_u64(b) < 64u); }

fn bitwise_left_shift_u64(a: u64, b: u64) -> u64 {
    let by = distance_u64(b);
    if (by == 64u) { return make_u64(0u, 0u); }
    return left_u64(a, by);
}

fn bitwise_left_shift_i64(a: i64, b: i64) -> i64 {
    return i64_from_u64(bitwise_left_shift_u64(u64_from_i64(a), u64_from_i64(b)));
}

fn bitwise_right_shift_u64(a: u64, b: u64) -> u64 {
    let by = distance_u64(b);
    if (by == 64u) { return make_u64(0u, 0u); }
    return right_u64(a, by);
}

fn bitwise_right_shift_i64(a: i64, b: i64) -> i64 { return right_i64(a, min(distance_u64(u64_from_i64(b)), 63u)); }
