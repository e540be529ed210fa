// What the kernels of products share: where a batch's matrices begin, and which part of the sum is whose. Batches
// have two axes of `batches / batch1` and `batch1` entries. Where the sum is split, batch `part · batches + i` adds up
// `each` steps along k of batch i, and matmul_sum.wgsl adds up the parts.
//
// Parameters, in elements: `row`; `parts`, `each`; `batches`, `batch1`, `m`, `n`, `k`; of each matrix its offset and
// its strides, such as `a_offset`, `a_batch0`, `a_batch1`, `a_m`, `a_k`; `out_offset`; then those of the epilogue.
// A sum goes to `store(o, r, sum)` or, with its three neighbours, to `store_four(o, r, sums)`: row o = batch · m + row
// of the output, column r, by way of the epilogue. The host generates both.

fn batches() -> u32 { return p.parts * p.batches; }

fn open_batch(batch: u32) -> vec2<u32> {
    let begin = batch / p.batches * p.each;
    return vec2<u32>(begin, min(begin + p.each, p.k));
}

fn a_of_batch(batch: u32) -> u32 {
    let i = batch % p.batches;
    return p.a_offset + i / p.batch1 * p.a_batch0 + i % p.batch1 * p.a_batch1;
}

fn b_of_batch(batch: u32) -> u32 {
    let i = batch % p.batches;
    return p.b_offset + i / p.batch1 * p.b_batch0 + i % p.batch1 * p.b_batch1;
}

