//! Folds: what items come to, one state at a time, as WGSL for reduce.wgsl, softmax.wgsl and scan.wgsl. How a
//! device's lanes share out the items is not known here.

use super::rows;
use super::wgsl::Type;
use crate::ir::kernel::Reduce;

/// What items come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    /// A value: the state is of the items' type, or u32 for bool.
    Value(Reduce),
    LogSum,
    Moments,
    Arg {
        largest: bool,
    },
}

impl Fold {
    pub fn key(self) -> u32 {
        match self {
            Fold::Value(kind) => kind as u32,
            Fold::LogSum => 16,
            Fold::Moments => 17,
            Fold::Arg { largest } => 18 + u32::from(largest),
        }
    }

    /// The bytes of a state in memory.
    pub fn size(self, ty: Type) -> usize {
        let wide = ty.is_wide();
        match self {
            Fold::Value(_) => 4 << u32::from(wide),
            Fold::LogSum => 8,
            Fold::Moments => 16,
            Fold::Arg { .. } => 8 << u32::from(wide),
        }
    }

    /// How many neighbours exchange states; 64-bit integers do not go from lane to lane.
    pub fn subgroup(self, ty: Type, of_device: u32) -> u32 {
        if ty.is_wide() { 1 } else { of_device }
    }

    /// `Value`, `State` and its functions, for items of type `ty`.
    pub fn text(self, ty: Type, subgroup: u32) -> String {
        let value = ty.name();
        let (fields, text): (&[&str], String) = match self {
            Fold::Value(kind) => (&[], value_fold(kind, ty)),
            Fold::LogSum => (&["most", "sum"], include_str!("../../shaders/fold_logsumexp.wgsl").into()),
            Fold::Moments => (
                &["count", "pivot", "mean", "squares"],
                include_str!("../../shaders/fold_moments.wgsl").into(),
            ),
            Fold::Arg { largest } => {
                let order = if largest { "order" } else { "reverse" };
                let head = keys(ty, &format!("{order}_{value}(x)"));
                (&["key", "at"], head + include_str!("../../shaders/fold_arg.wgsl"))
            }
        };
        let shuffled: Vec<String> =
            fields.iter().map(|field| format!("subgroupShuffleXor(state.{field}, mask)")).collect();
        let exchanged = match subgroup {
            1 => "state".into(),
            _ if fields.is_empty() => "subgroupShuffleXor(state, mask)".into(),
            _ => format!("State({})", shuffled.join(", ")),
        };
        format!(
            "alias Value = {value};\nconst SUBGROUP: u32 = {subgroup}u;\n{text}\
             fn exchange(state: State, mask: u32) -> State {{ return {exchanged}; }}\n"
        )
    }

    /// The bindings of the results from `first` on, and `store`.
    pub fn results(self, first: usize) -> String {
        let (elements, statements): (&[&str], &str) = match self {
            Fold::Value(_) => (&["State"], "out0[at] = state;"),
            Fold::LogSum => (&["f32"], "out0[at] = state.most + log_f32(state.sum);"),
            Fold::Moments => (
                &["f32", "f32"],
                "out0[at] = select(state.pivot + state.mean, nan_f32(), state.count == 0.0);\n    \
                 out1[at] = select(state.squares / state.count, nan_f32(), state.count == 0.0);",
            ),
            // Places as int64, low word first, also where the device has no such type.
            Fold::Arg { .. } => (&["vec2<u32>"], "out0[at] = vec2<u32>(state.at, 0u);"),
        };
        let bindings: String = elements
            .iter()
            .enumerate()
            .map(|(i, e)| rows::binding(&format!("out{i}"), first + i, e))
            .collect();
        format!("{bindings}fn store(at: u32, state: State) {{\n    {statements}\n}}\n")
    }
}

/// `Key`, an unsigned type, `key`, the key `of_x` of a value x, and what is asked of keys: `less` and `equal`.
pub(super) fn keys(ty: Type, of_x: &str) -> String {
    let (key, value) = (if ty.is_wide() { Type::U64 } else { Type::U32 }, ty.name());
    let equal = if ty.is_wide() { "eq_u64(a, b)" } else { "a == b" };
    format!(
        "alias Key = {};\nfn key(x: {value}) -> Key {{ return {of_x}; }}\n\
         fn less(a: Key, b: Key) -> bool {{ return {}; }}\n\
         fn equal(a: Key, b: Key) -> bool {{ return {equal}; }}\n",
        key.name(),
        key.less("a", "b"),
    )
}

/// The folds whose state is a value.
fn value_fold(kind: Reduce, ty: Type) -> String {
    let (state, lifted) = match ty {
        Type::Bool => (Type::U32, "select(0u, 1u, x)"),
        _ => (ty, "x"),
    };
    let float = state == Type::F32;
    let wide = state.is_wide();
    let name = state.name();
    let (neutral, merged) = match kind {
        Reduce::Sum => (state.literal(0.0), state.sum("a", "b")),
        Reduce::Prod => (state.literal(1.0), state.product("a", "b")),
        Reduce::Any => (format!("{name}(0)"), "max(a, b)".into()),
        Reduce::All => (format!("{name}(1)"), "min(a, b)".into()),
        // Log-sum-exp has a fold of its own.
        Reduce::Max | Reduce::LogSumExp if float || wide => (state.lowest(), format!("maximum_{name}(a, b)")),
        Reduce::Max | Reduce::LogSumExp => (state.lowest(), "max(a, b)".into()),
        Reduce::Min if float || wide => (state.highest(), format!("minimum_{name}(a, b)")),
        Reduce::Min => (state.highest(), "min(a, b)".into()),
    };
    format!(
        "alias State = {name};\nfn neutral() -> State {{ return {neutral}; }}\n\
         fn merge(a: State, b: State) -> State {{ return {merged}; }}\n\
         fn push(state: State, x: Value, at: u32) -> State {{ return merge(state, {lifted}); }}\n"
    )
}
