// rank: sorts few pairs by their first words, stably: each pair goes to the number of pairs before it.
//
// Bindings: 0 `pairs`, 1 `sorted`.
// Grid: one invocation for a pair, 256 in a workgroup.
// The work is quadratic; for many pairs there are the radix shaders.

@group(0) @binding(0) var<storage, read_write> pairs: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> sorted: array<vec2<u32>>;

struct Parameters {
    count: u32,
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.count) { return; }
    let pair = pairs[id.x];
    var before = 0u;
    for (var i = 0u; i < id.x; i++) {
        before += select(0u, 1u, pairs[i].x <= pair.x);
    }
    for (var i = id.x + 1u; i < p.count; i++) {
        before += select(0u, 1u, pairs[i].x < pair.x);
    }
    sorted[before] = pair;
}
