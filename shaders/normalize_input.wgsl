// normalize_input: the gradients of normalize.wgsl. With x̂ = (x − μ) r and h = dy w, dx = r (h − mean(h) − x̂
// mean(h x̂)), without the mean of h where rows are not `CENTRED`; and of the rows of a workgroup the parts Σ dy
// x̂ of dw and Σ dy of db, which the host adds up afterwards, in order.
//
// Bindings: `x`, `dy`, `mean`, `scale`; `weight`, where there is one; `dx`; then `dw` and `db`, where those parts
// are asked for: a row for each workgroup. As normalize.wgsl, through `load_…` and `store_…`.
// Grid: 256 invocations to a workgroup, of which `ALONG` share a row; one workgroup for each `each` · 256 /
// `ALONG` rows, folded into rows of `row`.
// Constants from the host: as normalize.wgsl; `DW`, `DB`, and `HELD`, how many items of a row a lane has at most,
// whose sums it keeps in registers, or 0 if neither part is asked for, and `SLOTS`, at least 1.
// Parameters, places and steps in items: `row`; `rows`, how many; `items` of a row; `each`; `x_offset`, `x_step`,
// `dy_offset`, `dy_step`, `weight_offset`, `dx_offset`; `mean_offset`, `mean_step`, `scale_offset`, `scale_step`;
// `part`, the first row of dw and db.
//
// A row of x and of dy is read twice; the second time it comes from a cache.

struct State { total: f32, along: f32 }

fn merge(a: State, b: State) -> State { return State(a.total + b.total, a.along + b.along); }

var<workgroup> gathered: array<Item, 256>;

// The sum of what the lanes have that have the same items of different rows, for the first of them.
fn of_all_rows(mine: Item, lane: u32) -> Item {
    if (ACROSS == 1u) { return mine; }
    workgroupBarrier();
    gathered[lane] = mine;
    workgroupBarrier();
    if (lane >= ALONG) { return mine; }
    var sum = Item();
    for (var i = lane % ALONG; i < 256u; i += ALONG) { sum += gathered[i]; }
    return sum;
}

fn slope(i: u32, g: Item) -> Item {
    if (WEIGHT) { return g * load_weight(p.weight_offset + i); }
    return g;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = group.y * p.row + group.x;
    let along = lane % ALONG;
    let n = f32(p.items) * WIDTH;
    var dw_sums: array<Item, SLOTS>;
    var db_sums: array<Item, SLOTS>;
    for (var k = 0u; k < HELD; k++) {
        dw_sums[k] = Item();
        db_sums[k] = Item();
    }
    for (var turn = 0u; turn < p.each; turn++) {
        let o = (at * p.each + turn) * ACROSS + lane / ALONG;
        let here = o < p.rows;
        let from_x = p.x_offset + o * p.x_step;
        let from_dy = p.dy_offset + o * p.dy_step;
        var mu = 0.0;
        var r = 0.0;
        var total_h = Item();
        var along_h = Item();
        if (here) {
            mu = mean[p.mean_offset + o * p.mean_step];
            r = scale[p.scale_offset + o * p.scale_step];
            if (HELD > 0u) {
                for (var k = 0u; k < HELD; k++) {
                    let i = along + k * ALONG;
                    if (i < p.items) {
                        let hat = (load_x(from_x + i) - mu) * r;
                        let g = load_dy(from_dy + i);
                        let h = slope(i, g);
                        dw_sums[k] += g * hat;
                        db_sums[k] += g;
                        total_h += h;
                        along_h += h * hat;
                    }
                }
            } else {
                for (var i = along; i < p.items; i += ALONG) {
                    let hat = (load_x(from_x + i) - mu) * r;
                    let h = slope(i, load_dy(from_dy + i));
                    total_h += h;
                    along_h += h * hat;
                }
            }
        }
        let sums = combine(State(total(total_h), total(along_h)), lane);
        if (here) {
            let mean_h = select(0.0, sums.total / n, CENTRED);
            let mean_along = sums.along / n;
            let to = p.dx_offset + o * p.items;
            for (var i = along; i < p.items; i += ALONG) {
                let hat = (load_x(from_x + i) - mu) * r;
                let h = slope(i, load_dy(from_dy + i));
                store_dx(to + i, (h - mean_h - hat * mean_along) * r);
            }
        }
    }
    let part = (p.part + at) * p.items;
    for (var k = 0u; k < HELD; k++) {
        let i = along + k * ALONG;
        let mine = lane < ALONG && i < p.items;
        if (DW) {
            let sum = of_all_rows(dw_sums[k], lane);
            if (mine) { store_dw(part + i, sum); }
        }
        if (DB) {
            let sum = of_all_rows(db_sums[k], lane);
            if (mine) { store_db(part + i, sum); }
        }
    }
}
