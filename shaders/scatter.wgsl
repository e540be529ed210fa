// scatter: rows of `source` added to, or set as, rows of `out`. Pairs (key, element) say where rows go, sorted
// by key, so that those for one place form a run, in the order in which they count:
//   out[place(l, pair)] += Σ over the run of source[l · total + element],   l < leads,
//   place(l, (key, element)) = (l · groups + element / per) · size + key.
// The pair at the head of a run adds the whole run; of rows that are set, the last of a run wins.
//
// Bindings: 0 `pairs`, 1 `source`, 2 `out`, the last two through `load_source`, `load_out` and `store`, which
// the host generates; where elements are narrower than words, `out` is atomic.
// Grid: one invocation for an element of (leads, pairs begin … end, width), 256 in a workgroup, folded into
// rows of `row` invocations.
// Constants from the host: `Value`; `ADD`, and `plus`. Places outside `first` … `first + held` are left to another
// dispatch that binds them.

@group(0) @binding(0) var<storage, read_write> pairs: array<vec2<u32>>;

struct Parameters {
    count: u32,
    row: u32,
    begin: u32,
    end: u32,
    lead: u32,
    width: u32,
    total: u32,
    groups: u32,
    per: u32,
    size: u32,
    first: u32,
    held: u32,
    // Of element 0 of row 0 of `source`, and of row `first` of `out`; they may wrap.
    source_offset: u32,
    out_offset: u32,
}

const NONE: u32 = 0xffffffffu;

fn same(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x == b.x && a.y / p.per == b.y / p.per; }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.y * p.row + group.x * 256u + lane;
    if (i >= p.count) { return; }
    let column = i % p.width;
    let pairs_here = p.end - p.begin;
    let at = p.begin + i / p.width % pairs_here;
    let l = p.lead + i / p.width / pairs_here;
    let pair = pairs[at];
    if (pair.x == NONE) { return; }
    let place = (l * p.groups + pair.y / p.per) * p.size + pair.x - p.first;
    if (place >= p.held) { return; }
    let source_at = p.source_offset + l * p.total * p.width + column;
    let to = p.out_offset + place * p.width + column;
    if (ADD) {
        if (at > p.begin && same(pairs[at - 1u], pair)) { return; }
        var sum = plus(load_out(to), load_source(source_at + pair.y * p.width));
        for (var next = at + 1u; next < p.end; next++) {
            let other = pairs[next];
            if (!same(other, pair)) { break; }
            sum = plus(sum, load_source(source_at + other.y * p.width));
        }
        store(to, sum);
    } else {
        if (at + 1u < p.end && same(pairs[at + 1u], pair)) { return; }
        store(to, load_source(source_at + pair.y * p.width));
    }
}
