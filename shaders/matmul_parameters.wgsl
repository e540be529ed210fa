// What matmul.wgsl and matmul_small.wgsl share: where a batch's matrices begin. Batches have two axes of
// `batches / batch1` and `batch1` entries.
//
// Parameters, in elements: `row`; `batches`, `batch1`, `m`, `n`, `k`; of each matrix its offset and its strides, such
// as `a_offset`, `a_batch0`, `a_batch1`, `a_m`, `a_k`; `out_offset`; then those of the epilogue.
// An element of the product goes to `store(at, o, column, sum)`, which the host generates: it runs the epilogue,
// whose other operands have rows o = batch · m + row, and writes to place `at`.

fn a_of_batch(batch: u32) -> u32 {
    return p.a_offset + batch / p.batch1 * p.a_batch0 + batch % p.batch1 * p.a_batch1;
}

fn b_of_batch(batch: u32) -> u32 {
    return p.b_offset + batch / p.batch1 * p.b_batch0 + batch % p.batch1 * p.b_batch1;
}
