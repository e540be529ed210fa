//! naga validates every shader, hand-written and generated. No GPU is needed.
#![cfg(feature = "gpu")]

use naga::valid::{Capabilities, ValidationFlags, Validator};

#[test]
fn every_shader_is_valid() {
    let shaders = oxon::gpu::all_shaders();
    assert!(shaders.len() > 1000, "{} shaders", shaders.len());
    let mut wrong = vec![];
    for (name, text) in &shaders {
        let module = match naga::front::wgsl::parse_str(text) {
            Ok(module) => module,
            Err(error) => {
                wrong.push(format!("{name}: {}", error.emit_to_string(text)));
                continue;
            }
        };
        let capabilities = Capabilities::IMMEDIATES
            | Capabilities::SHADER_INT64
            | Capabilities::SUBGROUP
            | Capabilities::SHADER_FLOAT16
            | Capabilities::COOPERATIVE_MATRIX;
        if let Err(error) = Validator::new(ValidationFlags::all(), capabilities).validate(&module) {
            wrong.push(format!("{name}: {}", error.emit_to_string(text)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are invalid:\n{}",
        wrong.len(),
        shaders.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
}
