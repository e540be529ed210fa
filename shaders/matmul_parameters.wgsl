// What matmul.wgsl and matmul_small.wgsl share: sizes, strides and offsets in elements, and where a
// batch's matrices begin. Batches have two axes of `batches / batch1` and `batch1` entries.

struct Parameters {
    row: u32,
    batches: u32,
    batch1: u32,
    m: u32,
    n: u32,
    k: u32,
    a_offset: u32,
    a_batch0: u32,
    a_batch1: u32,
    a_m: u32,
    a_k: u32,
    b_offset: u32,
    b_batch0: u32,
    b_batch1: u32,
    b_k: u32,
    b_n: u32,
    out_offset: u32,
}

fn a_of_batch(batch: u32) -> u32 {
    return p.a_offset + batch / p.batch1 * p.a_batch0 + batch % p.batch1 * p.a_batch1;
}

fn b_of_batch(batch: u32) -> u32 {
    return p.b_offset + batch / p.batch1 * p.b_batch0 + batch % p.batch1 * p.b_batch1;
}
