// What a step of a recurrent layer does with the gates' shares of the input and of the last hidden state, gi and
// gh:
//
//   tanh   h' = tanh(gi + gh)
//   relu   h' = max(gi + gh, 0)
//   lstm   i, f, g, o = gi + gh;  c' = σ(f) c + σ(i) tanh(g);  h' = σ(o) tanh(c');  keeps σ(i), σ(f), tanh(g), σ(o)
//   gru    r, z = σ(gi + gh);  n = tanh(gi₃ + r gh₃);  h' = (1 − z) n + z h;  keeps r, z, n, gh₃
//
// and the gradients. Constants from the host: `CELL`; `GATES`, `KEPT`, the values that a unit keeps of a step.

const TANH: u32 = 0u;
const RELU: u32 = 1u;
const LSTM: u32 = 2u;
const GRU: u32 = 3u;

struct Step { h: f32, c: f32, kept: vec4<f32> }

struct Back { dgi: vec4<f32>, dgh: vec4<f32>, carry: f32 }

fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp_f32(-x)); }

fn step_of(gi: vec4<f32>, gh: vec4<f32>, h: f32, c: f32) -> Step {
    let sum = gi + gh;
    if (CELL == TANH) { return Step(tanh_f32(sum.x), 0.0, vec4<f32>()); }
    if (CELL == RELU) { return Step(select(sum.x, 0.0, sum.x < 0.0), 0.0, vec4<f32>()); }
    if (CELL == LSTM) {
        let kept = vec4<f32>(sigmoid(sum.x), sigmoid(sum.y), tanh_f32(sum.z), sigmoid(sum.w));
        let next = kept.y * c + kept.x * kept.z;
        return Step(kept.w * tanh_f32(next), next, kept);
    }
    let r = sigmoid(sum.x);
    let z = sigmoid(sum.y);
    let n = tanh_f32(gi.z + r * gh.z);
    return Step(n + z * (h - n), 0.0, vec4<f32>(r, z, n, gh.z));
}

// From what was kept, the states before and after, the gradient of h', and what later steps have left over: that of
// c', or of a gru the part of h's that goes past the gates.
fn back_of(kept: vec4<f32>, h: f32, c: f32, h_after: f32, c_after: f32, dh_gates: f32, carry: f32) -> Back {
    if (CELL == TANH) {
        let d = vec4<f32>(dh_gates * (1.0 - h_after * h_after), 0.0, 0.0, 0.0);
        return Back(d, d, 0.0);
    }
    if (CELL == RELU) {
        let d = vec4<f32>(select(0.0, dh_gates, h_after > 0.0), 0.0, 0.0, 0.0);
        return Back(d, d, 0.0);
    }
    if (CELL == LSTM) {
        let y = tanh_f32(c_after);
        let dc = carry + dh_gates * kept.w * (1.0 - y * y);
        let d = vec4<f32>(dc * kept.z * kept.x * (1.0 - kept.x), dc * c * kept.y * (1.0 - kept.y),
            dc * kept.x * (1.0 - kept.z * kept.z), dh_gates * y * kept.w * (1.0 - kept.w));
        return Back(d, d, dc * kept.y);
    }
    let dh = dh_gates + carry;
    let dz = dh * (h - kept.z) * kept.y * (1.0 - kept.y);
    let dn = dh * (1.0 - kept.y) * (1.0 - kept.z * kept.z);
    let dr = dn * kept.w * kept.x * (1.0 - kept.x);
    return Back(vec4<f32>(dr, dz, dn, 0.0), vec4<f32>(dr, dz, dn * kept.x, 0.0), dh * kept.y);
}
