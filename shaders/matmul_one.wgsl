// matmul_one: products of 64-bit integers, which are no elements of vectors, and structures where the device has none:
// one invocation makes one element straight from memory.
//
// Bindings: as matmul.wgsl.
// Grid: 64 elements to a workgroup, all elements of all batches in one row, folded into rows of `row` workgroups.
// Constants from the host: `Value`; `load_a(at)`, `load_b(at)`; `add_product(sum, a, b)`; `store(o, r, sum)`.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let element = (group.y * p.row + group.x) * 64u + lane;
    let o = element / p.n;
    if (o >= p.batches * p.m) { return; }
    let r = element % p.n;
    var at_a = a_of_batch(o / p.m) + o % p.m * p.a_m;
    var at_b = b_of_batch(o / p.m) + r * p.b_n;
    var sum = Value();
    for (var k = 0u; k < p.k; k++) {
        sum = add_product(sum, load_a(at_a), load_b(at_b));
        at_a += p.a_k;
        at_b += p.b_k;
    }
    store(o, r, sum);
}
