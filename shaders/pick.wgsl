// pick: what shaders that take indices share. An int64 index comes as its low and its high word, so that
// no 64-bit type is needed; −size … −1 count from the end.
//
// Needs of its shader: the parameters `size`, of the axis, and `slot`; the binding `bounds`, words in
// which bad indices are reported (rust/gpu/bounds.rs).

const NONE: u32 = 0xffffffffu;

// The place along the axis, or NONE, and a report, where there is none.
fn pick(index: vec2<u32>) -> u32 {
    if (index.y == 0u && index.x < p.size) { return index.x; }
    if (index.y == 0xffffffffu && p.size != 0u && index.x >= 0u - p.size) { return index.x + p.size; }
    // The largest report is kept, which does not depend on the order of the invocations.
    var report = select(0xffffffffu, 1u, (index.y >> 31u) == 1u);
    if (index.y == 0u && index.x < 0x80000000u) { report = index.x | 0x80000000u; }
    if (index.y == 0xffffffffu && index.x >= 0x80000000u) { report = max(index.x & 0x7fffffffu, 1u); }
    atomicMax(&bounds[p.slot], report);
    return NONE;
}
