//! Sorting along the last axis, and searching in what is sorted. Elements are sorted by key together with their
//! place, in memory of their own; a last kernel fetches the values. The shaders' headers tell how.

use super::device::Shared;
use super::fold;
use super::pipeline::{Parameters, Source};
use super::pointwise::{self, Window, grid};
use super::reduce::LANES;
use super::rows::{self, Launch, Space};
use super::shaders::{SEARCH_SORTED, SORT_EMIT, SORT_STEP, SORT_TILE, Shader};
use super::wgsl::{self, Type};
use super::{Out, View};
use crate::bail;
use crate::core::{DType, Layout, Result};
use crate::ir::Program;
use crate::ir::kernel::{Axes, Fused};
use smallvec::{SmallVec, smallvec};

/// Entries of a tile.
const TILE: usize = 1024;
/// Entries that one dispatch sorts within tiles, which takes it up to 55 steps.
const MOST: usize = 1 << 21;
/// Pairs that one dispatch compares.
const PAIRS: usize = 1 << 24;

pub(super) fn sort(descending: bool, x: &View<'_>, outputs: &[Out<'_>]) -> Result<()> {
    let [values, places] = outputs else { bail!(Device, "sort: has two results") };
    let shape = &x.layout.shape;
    if shape.count() == 0 {
        return Ok(());
    }
    let shared = values.buffer.device().shared();
    let map = Fused::identity(x.dtype);
    let last = Axes::new(&[shape.rank().max(1) - 1]);
    let space = Space::of_map("sort", &map, &[*x], last, shared)?;
    if x.buffer.raw().id == values.buffer.raw().id {
        // Values are fetched in another order than they are written.
        let copy = values.buffer.device().alloc(shape.count() * x.dtype.size())?;
        let (layout, out) = (Layout::contiguous(shape.clone()), Out { buffer: &copy, shape, dtype: x.dtype });
        pointwise::run("sort", &map, &[*x], &[out])?;
        return sort(descending, &View { buffer: &copy, layout: &layout, dtype: x.dtype }, outputs);
    }
    rows::widened("sort", values, rows::wide(x.dtype), |values| {
        rows::widened("sort", places, DType::I64, |places| {
            Sort { shared, descending, x, values, places }.run(space)
        })
    })
}

struct Sort<'a> {
    shared: &'a Shared,
    descending: bool,
    x: &'a View<'a>,
    /// Of a wide dtype.
    values: &'a Out<'a>,
    places: &'a Out<'a>,
}

impl Sort<'_> {
    fn run(&self, part: Space) -> Result<()> {
        let (rows, length) = (part.kept(), part.length());
        let n = length.next_power_of_two();
        if let (true, Some(halves)) = (rows * n > MOST, part.halves(false)) {
            return halves.into_iter().try_for_each(|half| self.run(half));
        }
        let entry = if self.x.dtype.size() == 8 { 16 } else { 8 };
        let entries = self.x.buffer.device().alloc(rows * n * entry)?;
        let first = part.first * length;
        let windows = (
            part.windows(self.shared, &[(self.x.buffer, self.x.dtype.size())]),
            Window::new(self.shared, &entries, 0, rows * n - 1, entry),
            self.window(self.values, first, rows * length),
            self.window(self.places, first, rows * length),
        );
        let (Some(x), Some(entries), Some(values), Some(places)) = windows else {
            bail!(
                Device,
                "sort: rows of {length} elements are too long for what {} binds at once",
                self.shared.adapter
            )
        };
        self.tiles(&part, rows, n, 0, Some(&x), &entries)?;
        let mut size = 2 * TILE;
        while size <= n {
            let mut apart = size / 2;
            while apart >= TILE {
                self.step(rows, n, size, apart, &entries)?;
                apart /= 2;
            }
            self.tiles(&part, rows, n, size, None, &entries)?;
            size *= 2;
        }
        let groups = grid((rows * length).div_ceil(LANES) as u64);
        let numbers =
            [groups[0] as usize, rows * length, length, n, first - values.first, first - places.first];
        let mut words = numbers.map(|n| n as u32).to_vec();
        part.words(&x, &mut words);
        let bindings = smallvec![x[0].binding, entries.binding, values.binding, places.binding];
        self.launch(Stage::Emit, Some(part.ranks()), words, bindings, groups)
    }

    fn window<'a>(&self, out: &Out<'a>, first: usize, count: usize) -> Option<Window<'a>> {
        Window::new(self.shared, out.buffer, first, first + count - 1, out.dtype.size())
    }

    /// Sorts within tiles: fresh rows of `x`, or what is left to do for one size.
    fn tiles(
        &self,
        part: &Space,
        rows: usize,
        n: usize,
        size: usize,
        x: Option<&SmallVec<[Window<'_>; 4]>>,
        entries: &Window<'_>,
    ) -> Result<()> {
        let all = (rows * n).div_ceil(TILE);
        for first in (0..all).step_by(MOST / TILE) {
            let groups = grid((all - first).min(MOST / TILE) as u64);
            let numbers = [groups[0] as usize, first, rows, part.length(), n, size];
            let mut words = numbers.map(|n| n as u32).to_vec();
            let mut bindings: SmallVec<[_; 6]> = SmallVec::new();
            if let Some(x) = x {
                part.words(x, &mut words);
                bindings.push(x[0].binding);
            }
            bindings.push(entries.binding);
            self.launch(Stage::Tile, x.map(|_| part.ranks()), words, bindings, groups)?;
        }
        Ok(())
    }

    /// Compares all entries that are `apart`.
    fn step(&self, rows: usize, n: usize, size: usize, apart: usize, entries: &Window<'_>) -> Result<()> {
        let all = rows * n / 2;
        for first in (0..all).step_by(PAIRS) {
            let end = all.min(first + PAIRS);
            let groups = grid((end - first).div_ceil(LANES) as u64);
            let words = [groups[0] as usize, first, end, n, size, apart].map(|n| n as u32).to_vec();
            self.launch(Stage::Step, None, words, smallvec![entries.binding], groups)?;
        }
        Ok(())
    }

    fn launch(
        &self,
        stage: Stage,
        ranks: Option<[usize; 2]>,
        words: Vec<u32>,
        bindings: SmallVec<[super::queue::Binding<'_>; 6]>,
        groups: [u32; 2],
    ) -> Result<()> {
        let variant = Variant { stage, dtype: self.x.dtype, descending: self.descending, ranks };
        let launch =
            Launch { shader: stage.shader(), variant: variant.key(), program: None, words, bindings, groups };
        launch.run(self.shared, || variant.constants())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Tile,
    Step,
    Emit,
}

impl Stage {
    fn shader(self) -> &'static Shader {
        match self {
            Stage::Tile => &SORT_TILE,
            Stage::Step => &SORT_STEP,
            Stage::Emit => &SORT_EMIT,
        }
    }

    fn fields(self) -> [&'static str; 6] {
        match self {
            Stage::Tile => ["row", "first", "rows", "length", "n", "size"],
            Stage::Step => ["row", "first", "pairs", "n", "size", "apart"],
            Stage::Emit => ["row", "count", "length", "n", "values_first", "places_first"],
        }
    }
}

/// What specialises the shaders of a sort.
struct Variant {
    stage: Stage,
    dtype: DType,
    descending: bool,
    /// Of the operand, where there is one.
    ranks: Option<[usize; 2]>,
}

impl Variant {
    fn key(&self) -> Vec<u32> {
        let ranks = self.ranks.map_or([u32::MAX; 2], |ranks| ranks.map(|rank| rank as u32));
        vec![self.dtype as u32, u32::from(self.descending), ranks[0], ranks[1]]
    }

    fn constants(&self) -> Result<String> {
        let ty = Type::of(self.dtype).unwrap_or(Type::F32);
        let entry =
            format!("struct Entry {{ key: Key, at: u32 }}\nconst FRESH: bool = {};\n", self.ranks.is_some());
        let (mut operand, mut fields) = (String::new(), String::new());
        let mut next = 0;
        if let Some(ranks) = self.ranks {
            let (names, items) = rows::items(&Program::identity(self.dtype))?;
            let (of_places, places) = rows::places(&names, ranks);
            operand = items + &places;
            fields = of_places;
            next = 1;
        }
        operand += &rows::binding("entries", next, "Entry");
        operand += &match (self.stage, self.ranks) {
            (Stage::Tile, None) => "fn entry(at: u32) -> Entry { return entries[at]; }\n".into(),
            (Stage::Tile, Some(_)) => "fn entry(at: u32) -> Entry {\n    let place = at & (p.n - 1u);\n    \
                if (place >= p.length) { return Entry(greatest(), place); }\n    \
                return Entry(key(item(base_of(at / p.n), place)), place);\n}\n"
                .into(),
            (Stage::Step, _) => String::new(),
            (Stage::Emit, _) => {
                let value = Type::of(rows::wide(self.dtype)).unwrap_or(Type::F32).name();
                let stored = if ty == Type::Bool { "select(0u, 1u, x)" } else { "x" };
                rows::binding("values", 2, value)
                    + &rows::binding("places", 3, "vec2<u32>")
                    + &format!("fn stored(x: Item) -> {value} {{ return {stored}; }}\n")
            }
        };
        Ok([rows::parameters(&self.stage.fields(), &fields, &[]), key(ty, self.descending), entry, operand]
            .concat())
    }
}

/// What sorting asks of keys: those of `fold::keys`, and the `greatest`.
fn key(ty: Type, descending: bool) -> String {
    let not = |key: &str| if ty.is_wide() { format!("bitwise_not_u64({key})") } else { format!("~{key}") };
    let order = format!("order_{}(x)", ty.name());
    let key = fold::keys(ty, &if descending { not(&order) } else { order });
    key + &format!("fn greatest() -> Key {{ return {}; }}\n", not("Key()"))
}

pub(super) fn search_sorted(right: bool, sorted: &View<'_>, values: &View<'_>, out: &Out<'_>) -> Result<()> {
    let shared = out.buffer.device().shared();
    for view in [sorted, values] {
        wgsl::check("searchsorted", view.dtype, &shared.adapter)?;
    }
    if out.shape.count() == 0 {
        return Ok(());
    }
    let shape = &values.layout.shape;
    let rank = sorted.layout.rank();
    if rank != 1 && (rank != shape.rank() || sorted.layout.shape[..rank - 1] != shape[..rank - 1]) {
        bail!(Shape, "searchsorted: values {shape} do not fit rows {}", sorted.layout.shape);
    }
    // Where the row of each value begins.
    let mut begin = values.layout.clone();
    begin.offset = sorted.layout.offset;
    begin.strides.iter_mut().for_each(|stride| *stride = 0);
    if rank > 1 {
        begin.strides[..rank - 1].copy_from_slice(&sorted.layout.strides[..rank - 1]);
    }
    rows::widened("searchsorted", out, DType::I64, |out| {
        let operands = [values.layout.clone(), begin, Layout::contiguous(out.shape.clone())];
        let search = Search { shared, right, sorted, values, out };
        search.run(Space::new(shape, Axes::new(&[]), operands))
    })
}

struct Search<'a> {
    shared: &'a Shared,
    right: bool,
    sorted: &'a View<'a>,
    values: &'a View<'a>,
    out: &'a Out<'a>,
}

impl Search<'_> {
    fn run(&self, part: Space) -> Result<()> {
        let Some(windows) = self.windows(&part) else {
            let Some(halves) = part.halves(false) else {
                return Err(rows::too_large("searchsorted", self.shared));
            };
            return halves.into_iter().try_for_each(|half| self.run(half));
        };
        let axis = self.sorted.layout.rank() - 1;
        let count = part.kept();
        let groups = grid(count.div_ceil(LANES) as u64);
        let (length, stride) =
            (self.sorted.layout.shape[axis] as u32, self.sorted.layout.strides[axis] as u32);
        let mut words = vec![groups[0], count as u32, length, stride];
        part.words(&windows, &mut words);
        let bindings = windows.iter().map(|window| window.binding).collect();
        let (ranks, right) = (part.ranks(), u32::from(self.right));
        let variant = vec![self.values.dtype as u32, self.sorted.dtype as u32, right, ranks[0] as u32];
        let launch = Launch { shader: &SEARCH_SORTED, variant, program: None, words, bindings, groups };
        launch.run(self.shared, || Ok(search_constants(self.values.dtype, self.right, ranks)))
    }

    fn windows(&self, part: &Space) -> Option<SmallVec<[Window<'_>; 4]>> {
        let (x, rows, out) = (self.values, self.sorted, self.out);
        let buffers =
            [(x.buffer, x.dtype.size()), (rows.buffer, rows.dtype.size()), (out.buffer, out.dtype.size())];
        let mut windows = part.windows(self.shared, &buffers)?;
        // A row reaches beyond its beginning.
        let (low, high) = part.span(1)?;
        let axis = rows.layout.rank() - 1;
        let reach = (rows.layout.shape[axis].max(1) - 1) as isize * rows.layout.strides[axis];
        let (low, high) = (low.saturating_add_signed(reach.min(0)), high.saturating_add_signed(reach.max(0)));
        windows[1] = Window::new(self.shared, rows.buffer, low, high, rows.dtype.size())?;
        Some(windows)
    }
}

fn search_constants(dtype: DType, right: bool, ranks: [usize; 2]) -> String {
    let ty = Type::of(dtype).unwrap_or(Type::F32);
    let (fields, places) = rows::places(&["in0", "sorted", "out0"].map(String::from), ranks);
    let mut text =
        rows::parameters(&["row", "count", "length", "stride"], &fields, &[]) + &key(ty, false) + &places;
    for (i, name) in ["in0", "sorted"].into_iter().enumerate() {
        text += &rows::binding(name, i, &wgsl::storage(dtype, false));
        let load = wgsl::load(dtype, name, "at");
        text += &format!("fn load_{name}(at: u32) -> {} {{ return {load}; }}\n", ty.name());
    }
    text + &rows::binding("out0", 2, "vec2<u32>") + &format!("const RIGHT: bool = {right};\n")
}

/// All variants of the shaders of this file.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for &dtype in DType::ALL.iter().filter(|&&dtype| dtype != DType::F64) {
        for descending in [false, true] {
            for (stage, ranks) in [
                (Stage::Tile, Some([1, 1])),
                (Stage::Tile, Some([2, 1])),
                (Stage::Tile, None),
                (Stage::Step, None),
                (Stage::Emit, Some([1, 1])),
            ] {
                if let Ok(constants) = (Variant { stage, dtype, descending, ranks }).constants() {
                    let name = format!("sort {stage:?} {dtype} {descending} {ranks:?}");
                    all.push((name, rows::source(stage.shader(), &constants, 4, parameters)));
                }
            }
            let constants = search_constants(dtype, descending, [2, 0]);
            all.push((
                format!("searchsorted {dtype} {descending}"),
                SEARCH_SORTED.source(&constants, parameters),
            ));
        }
    }
    all
}
