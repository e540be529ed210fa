// sort_tile: the steps of a bitonic sort (sort_parameters.wgsl) that stay within tiles of 1024 entries: all of them
// up to that size for `FRESH` rows, whose entries it makes; else those of one `size` from apart = 512 on.
//
// Bindings: the operand, if `FRESH`, read through `base_of` and `item`; then `entries`.
// Grid: one workgroup of 256 invocations to a tile, from tile `first` on, folded into rows of `row`.
// Constants from the host: `Entry` of `Key` and place; `key`, of an item, with `less`, `equal` and
// `greatest`; `FRESH`.
// Parameters: `row`; `first`; `rows`, how many there are, of `length` elements and `n` entries; `size`; `base`, the
// first entry, and `origin`, the first place of a row, that is bound.

const TILE: u32 = 1024u;

var<workgroup> tile: array<Entry, 1024>;

fn step(lane: u32, first: u32, size: u32, apart: u32) {
    for (var pair = lane; pair < TILE / 2u; pair += 256u) {
        let i = lower(pair, apart);
        let a = tile[i];
        let b = tile[i + apart];
        let ascending = ((first + i) & (p.n - 1u) & size) == 0u;
        if (before(b, a) == ascending) {
            tile[i] = b;
            tile[i + apart] = a;
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = (p.first + group.y * p.row + group.x) * TILE;
    let count = p.rows * p.n;
    if (first >= count) { return; }
    for (var i = lane; i < TILE; i += 256u) {
        let at = first + i;
        if (at >= count) {
            tile[i] = Entry(greatest(), 0xffffffffu);
        } else {
            tile[i] = entry(at);
        }
    }
    workgroupBarrier();
    if (FRESH) {
        for (var size = 2u; size <= min(p.n, TILE); size *= 2u) {
            for (var apart = size / 2u; apart > 0u; apart /= 2u) {
                step(lane, first, size, apart);
            }
        }
    } else {
        for (var apart = TILE / 2u; apart > 0u; apart /= 2u) {
            step(lane, first, p.size, apart);
        }
    }
    for (var i = lane; i < TILE; i += 256u) {
        if (first + i < count) { entries[first + i - p.base] = tile[i]; }
    }
}
