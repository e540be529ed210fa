// The product element by element, where tiles would be mostly empty: groups of few channels, and the image's
// gradient where it has three.
//
// Grid: one invocation for an element of all batches, columns fastest, 64 in a workgroup, folded into rows of
// `row` workgroups.
// Sums over k go in order, its digits counted on, so that no step divides.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (id.y * p.row + id.x) * 64u + lane;
    let batch = i / p.n / p.m;
    if (batch >= batches()) { return; }
    let row = i / p.n % p.m;
    let place = open_batch(batch);
    let to = place_of(batch, row, i % p.n);
    if (to.x == NOWHERE) { return; }
    let site = site_of(batch, i % p.n);
    var sum = Value(0);
    if (place.x < place.y) {
        var d = digits_of(place.x);
        for (var k = place.x; k < place.y; k++) {
            sum += at_a(batch, row, d) * at_b(site, d);
            d = after(d);
        }
    }
    store(to.x, to.y, sum);
}
