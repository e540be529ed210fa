// matmul: out = a × b for a batch of matrices (M, K) and (K, N), anywhere in memory, to row-major (M, N), in the
// tiles of tile.wgsl.
//
// Bindings: 0 `a`, 1 `b`; 2 `out`; then the epilogue's other operands. matmul_parameters.wgsl tells how.
// Grid and constants: tile.wgsl. From the host come `rows_a`, `rows_b`, `block_a` and `block_b`: quads along k,
// quads across it, or single elements, as the operand lies.

alias Rows = vec4<u32>;
alias Columns = vec4<u32>;

fn open_a(batch: u32, row: u32) -> Rows { return rows_a(a_of_batch(batch), row); }
fn open_b(batch: u32, column: u32) -> Columns { return rows_b(b_of_batch(batch), column); }

fn store_row(batch: u32, row: u32, column: u32, sums: vec4<Value>) {
    if (row < p.m && column < p.n) { store_four(batch * p.m + row, column, sums); }
}

