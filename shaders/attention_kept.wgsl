
// What attention_query.wgsl and attention_key.wgsl read of four queries, `first` … + 3 of `count`: the logarithms that
// attention.wgsl kept, and D = Σ dO ∘ O. Weights of a query that sees no key are 0.

struct Kept {
    lses: vec4<f32>,
    deltas: vec4<f32>,
}

fn kept_of(base: Base, first: u32, count: u32) -> Kept {
    var kept: Kept;
    for (var i = 0u; i < 4u; i++) {
        if (first + i < count) {
            let x = lse[base.lse + first + i];
            kept.lses[i] = select(x, inf_f32(), x == -inf_f32());
            kept.deltas[i] = delta[base.delta + first + i];
        }
    }
    return kept;
}

