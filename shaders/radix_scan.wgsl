// radix_scan: counts[i] = Σ counts[j] over j < i, in place.
//
// Bindings: 0 `counts`.
// Grid: one workgroup of 256. Each invocation sums a stretch of its own, then adds what lies before it.

@group(0) @binding(0) var<storage, read_write> counts: array<u32>;

struct Parameters {
    count: u32,
}

var<workgroup> sums: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    let each = (p.count + 255u) / 256u;
    let begin = min(lane * each, p.count);
    let end = min(begin + each, p.count);
    var sum = 0u;
    for (var i = begin; i < end; i++) { sum += counts[i]; }
    sums[lane] = sum;
    workgroupBarrier();
    var before = 0u;
    for (var i = 0u; i < lane; i++) { before += sums[i]; }
    for (var i = begin; i < end; i++) {
        let here = counts[i];
        counts[i] = before;
        before += here;
    }
}
