// 64-bit integers as pairs of words, for devices that lack them: the types and, under one name each with
// native.wgsl, what everything else is made of. They are structures, so that an operator that forgets to be a
// function does not compile.

struct i64 { @align(8) low: u32, high: u32 }
struct u64 { @align(8) low: u32, high: u32 }

fn make_u64(low: u32, high: u32) -> u64 { return u64(low, high); }
fn make_i64(low: u32, high: u32) -> i64 { return i64(low, high); }
fn low_u64(x: u64) -> u32 { return x.low; }
fn high_u64(x: u64) -> u32 { return x.high; }
fn low_i64(x: i64) -> u32 { return x.low; }
fn high_i64(x: i64) -> u32 { return x.high; }
fn i64_from_u64(x: u64) -> i64 { return i64(x.low, x.high); }
fn u64_from_i64(x: i64) -> u64 { return u64(x.low, x.high); }

// To the nearest, ties to even: the upper 32 bits from the first one on, of which the last also stands for all
// that is below.
fn f32_from_u64(x: u64) -> f32 {
    if (x.high == 0u) { return f32(x.low); }
    let by = countLeadingZeros(x.high);
    let top = left_u64(x, by);
    let word = top.high | select(0u, 1u, top.low != 0u);
    return f32(word) * bitcast<f32>((127u + 32u - by) << 23u);
}

fn select_u64(a: u64, b: u64, second: bool) -> u64 {
    return u64(select(a.low, b.low, second), select(a.high, b.high, second));
}

fn select_i64(a: i64, b: i64, second: bool) -> i64 {
    return i64(select(a.low, b.low, second), select(a.high, b.high, second));
}

fn eq_i64(a: i64, b: i64) -> bool { return a.low == b.low && a.high == b.high; }
fn eq_u64(a: u64, b: u64) -> bool { return a.low == b.low && a.high == b.high; }

fn lt_u64(a: u64, b: u64) -> bool { return a.high < b.high || (a.high == b.high && a.low < b.low); }

fn lt_i64(a: i64, b: i64) -> bool {
    return bitcast<i32>(a.high) < bitcast<i32>(b.high) || (a.high == b.high && a.low < b.low);
}

fn add_u64(a: u64, b: u64) -> u64 {
    let low = a.low + b.low;
    return u64(low, a.high + b.high + select(0u, 1u, low < a.low));
}

fn sub_u64(a: u64, b: u64) -> u64 {
    return u64(a.low - b.low, a.high - b.high - select(0u, 1u, a.low < b.low));
}

fn mul_u64(a: u64, b: u64) -> u64 {
    let low = multiply_wide(a.low, b.low);
    return u64(low.x, low.y + a.low * b.high + a.high * b.low);
}

fn add_i64(a: i64, b: i64) -> i64 { return i64_from_u64(add_u64(u64_from_i64(a), u64_from_i64(b))); }
fn sub_i64(a: i64, b: i64) -> i64 { return i64_from_u64(sub_u64(u64_from_i64(a), u64_from_i64(b))); }
fn mul_i64(a: i64, b: i64) -> i64 { return i64_from_u64(mul_u64(u64_from_i64(a), u64_from_i64(b))); }

// Of b that is not zero, by long division: one bit of a comes down to the rest at a time. The rest is below b,
// so twice the rest may need a 65th bit, which says that b goes into it.
fn quotient_u64(a: u64, b: u64) -> u64 {
    if (a.high == 0u && b.high == 0u) { return u64(a.low / b.low, 0u); }
    var left = a;
    var rest = u64(0u, 0u);
    var quotient = u64(0u, 0u);
    for (var i = 0u; i < 64u; i++) {
        let over = rest.high >> 31u;
        rest = u64((rest.low << 1u) | (left.high >> 31u), (rest.high << 1u) | (rest.low >> 31u));
        left = u64(left.low << 1u, (left.high << 1u) | (left.low >> 31u));
        quotient = u64(quotient.low << 1u, (quotient.high << 1u) | (quotient.low >> 31u));
        if (over == 1u || !lt_u64(rest, b)) {
            rest = sub_u64(rest, b);
            quotient.low |= 1u;
        }
    }
    return quotient;
}

fn bitwise_and_i64(a: i64, b: i64) -> i64 { return i64(a.low & b.low, a.high & b.high); }
fn bitwise_and_u64(a: u64, b: u64) -> u64 { return u64(a.low & b.low, a.high & b.high); }
fn bitwise_or_i64(a: i64, b: i64) -> i64 { return i64(a.low | b.low, a.high | b.high); }
fn bitwise_or_u64(a: u64, b: u64) -> u64 { return u64(a.low | b.low, a.high | b.high); }
fn bitwise_xor_i64(a: i64, b: i64) -> i64 { return i64(a.low ^ b.low, a.high ^ b.high); }
fn bitwise_xor_u64(a: u64, b: u64) -> u64 { return u64(a.low ^ b.low, a.high ^ b.high); }

// By 0 … 63; WGSL shifts words by less than 32.
fn left_u64(a: u64, by: u32) -> u64 {
    if (by == 0u) { return a; }
    if (by >= 32u) { return u64(0u, a.low << (by - 32u)); }
    return u64(a.low << by, (a.high << by) | (a.low >> (32u - by)));
}

fn right_u64(a: u64, by: u32) -> u64 {
    if (by == 0u) { return a; }
    if (by >= 32u) { return u64(a.high >> (by - 32u), 0u); }
    return u64((a.low >> by) | (a.high << (32u - by)), a.high >> by);
}

fn right_i64(a: i64, by: u32) -> i64 {
    let high = bitcast<i32>(a.high);
    if (by == 0u) { return a; }
    if (by >= 32u) { return i64(bitcast<u32>(high >> (by - 32u)), bitcast<u32>(high >> 31u)); }
    return i64((a.low >> by) | (a.high << (32u - by)), bitcast<u32>(high >> by));
}
