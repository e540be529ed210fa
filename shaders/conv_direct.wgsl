
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
    // k in its three digits, so that no step divides.
    let sizes = digits();
    let step = steps();
    let area = sizes.x * sizes.y;
    var outer = begin / area;
    var inner = begin % area;
    var last = begin % sizes.y;
    var site = row_of(begin);
    for (var k = begin; k < end; k++) {
        sum += at_a(group, row, outer, inner) * at_b(column, site);
        inner += 1u;
        last += 1u;
        site.x += step.x;
        if (last == sizes.y) {
            last = 0u;
            site.x = 0u;
            site.y += step.y;
        }
        if (inner == area) {
            inner = 0u;
            site.y = 0u;
            outer += 1u;
            site.base += step.base;
        }
    }
    y[y_column(batch, i % p.n) + row * y_row()] = sum;
}
