//! The functions that generated kernels call, cut out of `shaders/prelude/`: a kernel's text gets what it
//! names and what that names in turn. What 64-bit integers are made of comes last, when the device is known.

use std::collections::HashMap;
use std::sync::LazyLock;

const FILES: [&str; 5] = [
    include_str!("../../shaders/prelude/float.wgsl"),
    include_str!("../../shaders/prelude/special.wgsl"),
    include_str!("../../shaders/prelude/integer.wgsl"),
    include_str!("../../shaders/prelude/order.wgsl"),
    include_str!("../../shaders/prelude/wide.wgsl"),
];
/// What 64-bit integers are made of, for devices that have them and for those that do not.
const NATIVE: &str = include_str!("../../shaders/prelude/native.wgsl");
const PAIRS: &str = include_str!("../../shaders/prelude/pairs.wgsl");

type Declarations = HashMap<&'static str, &'static str>;

static DECLARATIONS: LazyLock<Declarations> = LazyLock::new(|| FILES.into_iter().flat_map(cut).collect());
static OF_NATIVE: LazyLock<Declarations> = LazyLock::new(|| cut(NATIVE).into_iter().collect());
/// With what the pairs call of the rest.
static OF_PAIRS: LazyLock<Declarations> = LazyLock::new(|| {
    let multiply = DECLARATIONS.get_key_value("multiply_wide").map(|(name, text)| (*name, *text));
    cut(PAIRS).into_iter().chain(multiply).collect()
});

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

/// The declarations that `text` needs, in an order that depends on the text alone; those of [`wide`] aside.
pub(super) fn needed(text: &str) -> String {
    reached(text, &DECLARATIONS)
}

/// The declarations of 64-bit integers that `text`, a kernel with its prelude, needs on a device that has them
/// or has not.
pub(super) fn wide(text: &str, native: bool) -> String {
    reached(text, if native { &OF_NATIVE } else { &OF_PAIRS })
}

fn reached(text: &str, declarations: &Declarations) -> String {
    let given = text;
    let mut found: Vec<&str> = vec![];
    let mut reach = |text: &str| {
        for word in words(text) {
            if let Some((name, declaration)) = declarations.get_key_value(word)
                && !found.contains(name)
                // A kernel's text may have it already.
                && !given.contains(declaration)
            {
                found.push(name);
            }
        }
        found.clone()
    };
    let mut all = reach(text);
    let mut at = 0;
    while at < all.len() {
        all = reach(declarations[all[at]]);
        at += 1;
    }
    all.iter().map(|name| declarations[name]).collect()
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
    fn pairs_stand_for_64_bits_under_the_same_names() {
        let mut missing = OF_NATIVE.keys().filter(|name| !OF_PAIRS.contains_key(*name));
        assert_eq!(missing.next(), None);
        assert!(!wide("let y = add_u64(a, b);", true).contains("struct"));
        let text = wide("let y = mul_i64(a, b);", false);
        for name in ["struct i64", "struct u64", "fn mul_u64", "fn multiply_wide"] {
            assert_eq!(text.matches(name).count(), 1, "{name} in {text}");
        }
        assert_eq!(wide(&text, false), "", "what is there is not declared again");
    }

    #[test]
    fn every_declaration_is_cut_whole() {
        let declared = |text: &str| {
            text.lines().filter(|line| line.starts_with("fn ") || line.starts_with("struct ")).count()
        };
        assert_eq!(DECLARATIONS.len(), declared(&all()));
        assert_eq!(OF_NATIVE.len(), declared(NATIVE));
        assert_eq!(OF_PAIRS.len(), declared(PAIRS) + 1, "with multiply_wide");
        for (name, text) in DECLARATIONS.iter().chain(OF_NATIVE.iter()).chain(OF_PAIRS.iter()) {
            let count = |c| text.matches(c).count();
            assert_eq!(count('{'), count('}'), "{name}");
            assert!(text.trim_end().ends_with('}'), "{name}");
        }
    }
}
