// matmul_small: as matmul.wgsl, for products too narrow to fill its tiles: one invocation makes one element
// straight from memory; and for products of 64-bit integers.
//
// Bindings: as matmul.wgsl.
// Grid: 64 elements to a workgroup, all elements of all batches in one row, folded into rows of `row`
// workgroups.
// Constants from the host: as matmul.wgsl, and `add_product(sum, a, b)`; the two that say what lies along K are not used.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let element = (group.y * p.row + group.x) * 64u + lane;
    let batch = element / (p.m * p.n);
    if (batch >= p.batches) { return; }
    let row = element / p.n % p.m;
    let column = element % p.n;
    var at_a = a_of_batch(batch) + row * p.a_m;
    var at_b = b_of_batch(batch) + column * p.b_n;
    var sum = Value();
    for (var k = 0u; k < p.k; k++) {
        sum = add_product(sum, load_a(at_a), load_b(at_b));
        at_a += p.a_k;
        at_b += p.b_k;
    }
    store(p.out_offset + element, element / p.n, column, sum);
}
