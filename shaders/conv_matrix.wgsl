// The same of an a that is a matrix (m, k) for each group: `rows_a` and `block_a` come from the host, as for matmul.

alias Rows = vec4<u32>;

fn open_a(batch: u32, row: u32) -> Rows { return rows_a(p.a_offset + batch % p.groups * p.m * p.k, row); }

