// Keys: unsigned integers in the order of the values, for sorting and for places of extremes; the head of
// float.wgsl says how functions get into a kernel. Both zeros have one key. NaN has the greatest, and for
// `reverse_…`, the keys of the opposite order, too.

fn order_f32(x: f32) -> u32 {
    if (isnan_f32(x)) { return 0xffffffffu; }
    let bits = bitcast<u32>(x);
    if (bits == 0x80000000u) { return bits; }
    return select(bits | 0x80000000u, ~bits, signbit_f32(x));
}

fn reverse_f32(x: f32) -> u32 {
    return select(~order_f32(x), 0xffffffffu, isnan_f32(x));
}

fn order_bool(x: bool) -> u32 { return select(0u, 1u, x); }
fn order_u32(x: u32) -> u32 { return x; }
fn order_i32(x: i32) -> u32 { return bitcast<u32>(x) ^ 0x80000000u; }
fn order_u64(x: u64) -> u64 { return x; }
fn order_i64(x: i64) -> u64 { return make_u64(low_i64(x), high_i64(x) ^ 0x80000000u); }

fn reverse_bool(x: bool) -> u32 { return ~order_bool(x); }
fn reverse_u32(x: u32) -> u32 { return ~x; }
fn reverse_i32(x: i32) -> u32 { return ~order_i32(x); }
fn reverse_u64(x: u64) -> u64 { return bitwise_not_u64(x); }
fn reverse_i64(x: i64) -> u64 { return bitwise_not_u64(order_i64(x)); }
