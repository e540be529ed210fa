// 64-bit integers where the device has them, under the names by which pairs.wgsl has them elsewhere.

fn make_u64(low: u32, high: u32) -> u64 { return u64(low) | (u64(high) << 32u); }
fn make_i64(low: u32, high: u32) -> i64 { return bitcast<i64>(u64(low) | (u64(high) << 32u)); }
fn low_u64(x: u64) -> u32 { return u32(x); }
fn high_u64(x: u64) -> u32 { return u32(x >> 32u); }
fn low_i64(x: i64) -> u32 { return bitcast<u32>(i32(x)); }
fn high_i64(x: i64) -> u32 { return bitcast<u32>(i32(x >> 32u)); }
fn i64_from_u64(x: u64) -> i64 { return bitcast<i64>(x); }
fn u64_from_i64(x: i64) -> u64 { return bitcast<u64>(x); }
fn f32_from_u64(x: u64) -> f32 { return f32(x); }

fn select_i64(a: i64, b: i64, second: bool) -> i64 { return select(a, b, second); }
fn select_u64(a: u64, b: u64, second: bool) -> u64 { return select(a, b, second); }
fn eq_i64(a: i64, b: i64) -> bool { return a == b; }
fn eq_u64(a: u64, b: u64) -> bool { return a == b; }
fn lt_i64(a: i64, b: i64) -> bool { return a < b; }
fn lt_u64(a: u64, b: u64) -> bool { return a < b; }

fn add_i64(a: i64, b: i64) -> i64 { return a + b; }
fn add_u64(a: u64, b: u64) -> u64 { return a + b; }
fn sub_i64(a: i64, b: i64) -> i64 { return a - b; }
fn sub_u64(a: u64, b: u64) -> u64 { return a - b; }
fn mul_i64(a: i64, b: i64) -> i64 { return a * b; }
fn mul_u64(a: u64, b: u64) -> u64 { return a * b; }
// Of b that is not zero.
fn quotient_u64(a: u64, b: u64) -> u64 { return a / b; }

fn bitwise_and_i64(a: i64, b: i64) -> i64 { return a & b; }
fn bitwise_and_u64(a: u64, b: u64) -> u64 { return a & b; }
fn bitwise_or_i64(a: i64, b: i64) -> i64 { return a | b; }
fn bitwise_or_u64(a: u64, b: u64) -> u64 { return a | b; }
fn bitwise_xor_i64(a: i64, b: i64) -> i64 { return a ^ b; }
fn bitwise_xor_u64(a: u64, b: u64) -> u64 { return a ^ b; }
// By 0 … 63.
fn left_u64(a: u64, by: u32) -> u64 { return a << by; }
fn right_u64(a: u64, by: u32) -> u64 { return a >> by; }
fn right_i64(a: i64, by: u32) -> i64 { return a >> by; }
