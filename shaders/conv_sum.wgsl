// conv_sum: y[i] = Σ parts[part · count + i], in order.
//
// Bindings: 0 `parts`, 1 `y`.
// Grid: one invocation for an element, 256 in a workgroup, folded into rows of `row` invocations.

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

struct Parameters {
    count: u32,
    row: u32,
    parts: u32,
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.y * p.row + group.x * 256u + lane;
    if (i >= p.count) { return; }
    var sum = 0.0;
    for (var part = 0u; part < p.parts; part++) { sum += parts[part * p.count + i]; }
    y[i] = sum;
}
