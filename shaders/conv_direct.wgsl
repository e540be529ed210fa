
// The product element by element, where tiles would be mostly empty: depthwise, and groups of few channels.
//
// Grid: one invocation for an element of all batches, columns fastest, 64 in a workgroup, folded into rows of
// `row` workgroups.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (id.y * p.row + id.x) * 64u + lane;
    let batch = i / p.n / p.m;
    if (batch >= p.batches) { return; }
    let group = batch % p.groups;
    let row = i / p.n % p.m;
    let column = column_of(group, i % p.n);
    let begin = batch / p.groups * p.each;
    let end = min(begin + p.each, p.k);
    var sum = Value(0);
    for (var k = begin; k < end; k++) {
        sum += at_a(group, row, k) * at_b(column, row_of(k));
    }
    y[y_column(batch, i % p.n) + row * y_row()] = sum;
}
