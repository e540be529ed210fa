// radix: one pass of a radix sort, least significant digit first. Pairs lie in `chunks` chunks of `each`; an
// invocation walks one chunk in order, so the sort is stable and needs no atomics:
//   radix_count  counts[digit · chunks + chunk] = how many keys of the chunk have the digit
//   radix_scan   their exclusive sums: where the first of them goes
//   radix_move   moves each pair there and counts on.
//
// Bindings: 0 `pairs`, 1 `counts`, and of radix_move 2 `sorted`.
// Grid: one invocation for a chunk, 64 in a workgroup.
// The digit is the four bits of a key from bit `shift` on.

@group(0) @binding(0) var<storage, read_write> pairs: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;

struct Parameters {
    count: u32,
    chunks: u32,
    each: u32,
    shift: u32,
}

fn digit(key: u32) -> u32 { return (key >> p.shift) & 15u; }
