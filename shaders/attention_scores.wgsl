// What attention.wgsl, attention_query.wgsl and attention_key.wgsl share: which scores count, and what is added to
// them.
//
// Constants from the host: `CAUSAL`, whether query i sees keys 0 … i; `MASK`, whether something is added to
// scores; `load_mask(at)`, and `mask_of(base)`, where a head's begins. Parameters: `scale`, `mask_step` from query
// to query and `mask_along` from key to key.

// A score of query `query` with key `key`, both counted from the first that the mask's `base` knows.
fn added(base: u32, query: u32, key: u32, visible: bool) -> f32 {
    if (!MASK || !visible) { return 0.0; }
    return load_mask(base + query * p.mask_step + key * p.mask_along);
}

// e^x, and 0 where that is not visible.
fn weight(x: f32, visible: bool) -> f32 {
    if (!visible) { return 0.0; }
    return exp_f32(x);
}

fn weight4(x: vec4<f32>, visible: vec4<bool>) -> vec4<f32> {
    return vec4<f32>(weight(x.x, visible.x), weight(x.y, visible.y), weight(x.z, visible.z), weight(x.w, visible.w));
}
