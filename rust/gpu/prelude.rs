//! The functions that generated kernels call, cut out of `shaders/prelude/`: a kernel's text gets what it
//! names and what that names in turn.

use std::collections::HashMap;
use std::sync::LazyLock;

const FILES: [&str; 4] = [
    include_str!("../../shaders/prelude/float.wgsl"),
    include_str!("../../shaders/prelude/special.wgsl"),
    include_str!("../../shaders/prelude/integer.wgsl"),
    include_str!("../../shaders/prelude/order.wgsl"),
];

static DECLARATIONS: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| FILES.into_iter().flat_map(cut).collect());

/// The top-level functions and structures of a file, by name.
fn cut(file: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut found = vec![];
    let mut at = 0;
    while at < file.len() {
        let rest = &file[at..];
        let line = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let name = ["fn ", "struct "].iter().find_map(|keyword| rest.strip_prefix(keyword));
        let taken = match name {
            // One line, or as far as the brace that stands at the beginning of one.
            Some(_) if rest[..line].trim_end().ends_with('}') => line,
            Some(_) => rest.find("\n}").map_or(rest.len(), |end| (end + 3).min(rest.len())),
            None => line,
        };
        if let Some(name) = name {
            found.push((words(name).next().unwrap_or_default(), &rest[..taken]));
        }
        at += taken;
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
}

/// The declarations that `text` needs, in an order that depends on the text alone.
pub(super) fn needed(text: &str) -> String {
    let mut found: Vec<&str> = vec![];
    let mut reach = |text: &str| {
        for word in words(text) {
            if DECLARATIONS.contains_key(word) && !found.contains(&word) {
                found.push(DECLARATIONS.get_key_value(word).expect("just seen").0);
            }
        }
        found.clone()
    };
    let mut all = reach(text);
    let mut at = 0;
    while at < all.len() {
        all = reach(DECLARATIONS[all[at]]);
        at += 1;
    }
    all.iter().map(|name| DECLARATIONS[name]).collect()
}

/// The whole prelude, for validation.
pub(super) fn all() -> String {
    FILES.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_gets_what_it_calls_and_what_that_calls() {
        let text = needed("let y = tanh_f32(x);");
        for name in [
            "fn tanh_f32",
            "fn exp_f32",
            "fn exp_near_f32",
            "fn scale_f32",
            "fn isnan_f32",
            "fn copysign_f32",
        ] {
            assert_eq!(text.matches(name).count(), 1, "{name} in {text}");
        }
        assert!(!text.contains("log_f32"));
        assert_eq!(needed("x + y"), "");
        assert!(needed("split_f32").contains("struct Split"));
    }

    #[test]
    fn every_declaration_is_cut_whole() {
        let declared = all().lines().filter(|l| l.starts_with("fn ") || l.starts_with("struct ")).count();
        assert_eq!(DECLARATIONS.len(), declared);
        for (name, text) in DECLARATIONS.iter() {
            let count = |c| text.matches(c).count();
            assert_eq!(count('{'), count('}'), "{name}");
            assert!(text.trim_end().ends_with('}'), "{name}");
        }
    }
}
