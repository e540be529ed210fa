// The product where it has few elements, and each is a long sum: the gradient of depthwise weights.
//
// Grid: one workgroup of 256 for an element of all batches, columns fastest, folded into rows of `row` workgroups.
// Neighbouring invocations take neighbours along k; their sums meet in workgroup memory, always in the same order.

var<workgroup> sums: array<Value, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = id.y * p.row + id.x;
    let batch = i / p.n / p.m;
    if (batch >= batches()) { return; }
    let row = i / p.n % p.m;
    let range = open_batch(batch);
    let site = site_of(batch, i % p.n);
    var sum = Value(0);
    for (var k = range.x + lane; k < range.y; k += 256u) {
        let d = digits_of(k);
        sum += at_a(batch, row, d) * at_b(site, d);
    }
    sums[lane] = sum;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { sums[lane] += sums[lane + half]; }
    }
    if (lane == 0u) {
        let to = place_of(batch, row, i % p.n);
        if (to.x != NOWHERE) { store(to.x, to.y, sums[0]); }
    }
}
