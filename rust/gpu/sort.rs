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
use super::{Buffer, Out, View};
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
    let bound = x.buffer.raw().wgpu.size() <= shared.limits.max_storage_buffer_binding_size;
    if x.buffer.raw().id == values.buffer.raw().id || !bound && !x.layout.is_contiguous() {
        // Values are fetched in another order than they are written, and pieces of a row must lie together.
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

/// Keys and places while they are sorted: `rows` of `n`, a power of 2, entries of `size` bytes each, of which
/// `window`, a power of 2, are bound at once. Several rows fit a window.
struct Entries<'a> {
    buffer: &'a Buffer,
    size: usize,
    rows: usize,
    n: usize,
    window: usize,
}

impl Entries<'_> {
    /// The window that holds an entry.
    fn window(&self, shared: &Shared, entry: usize) -> Result<Window<'_>> {
        let first = entry / self.window * self.window;
        let last = (first + self.window).min(self.rows * self.n) - 1;
        Window::new(shared, self.buffer, first, last, self.size)
            .ok_or_else(|| rows::too_large("sort", shared))
    }
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
        let size = if self.x.dtype.size() == 8 { 16 } else { 8 };
        let most = self.shared.limits.max_storage_buffer_binding_size as usize / size;
        // The greatest power of 2 that can be bound.
        let window = (most / 2 + 1).next_power_of_two();
        let fits = self.operand(&part).is_some() && rows * n <= MOST.min(window);
        if let (false, Some(halves)) = (fits, part.halves(false)) {
            return halves.into_iter().try_for_each(|half| self.run(half));
        }
        let buffer = self.x.buffer.device().alloc(rows * n * size)?;
        let entries = Entries { buffer: &buffer, size, rows, n, window };
        self.tiles(&part, &entries, None)?;
        let mut size = 2 * TILE;
        while size <= n {
            let mut apart = size / 2;
            while apart >= TILE {
                self.step(&entries, size, apart)?;
                apart /= 2;
            }
            self.tiles(&part, &entries, Some(size))?;
            size *= 2;
        }
        part.clone()
            .pieces(&|piece| self.operand(piece).is_some())
            .ok_or_else(|| rows::too_large("sort", self.shared))?
            .iter()
            .try_for_each(|piece| self.emit(&part, &entries, piece))
    }

    /// The operand's elements of a part, if they can be bound.
    fn operand(&self, part: &Space) -> Option<SmallVec<[Window<'_>; 4]>> {
        part.windows(self.shared, &[(self.x.buffer, self.x.dtype.size())])
    }

    /// Sorts within tiles: what is left to do for one `size`, or fresh rows of the operand.
    fn tiles(&self, part: &Space, entries: &Entries<'_>, size: Option<usize>) -> Result<()> {
        let all = (entries.rows * entries.n).div_ceil(TILE);
        let each = MOST.min(entries.window) / TILE;
        for first in (0..all).step_by(each) {
            let groups = grid((all - first).min(each) as u64);
            // Of a row that is too long to be bound, what these tiles take.
            let begin = (first * TILE).min(part.length() - 1);
            let mut slice = part.clone();
            if entries.rows == 1 {
                slice = part.walked(begin, (each * TILE).min(part.length() - begin));
            }
            let bound = entries.window(self.shared, first * TILE)?;
            let numbers = [
                groups[0] as usize,
                first,
                entries.rows,
                part.length(),
                entries.n,
                size.unwrap_or(0),
                bound.first,
                slice.walked_first,
            ];
            let mut words = numbers.map(|n| n as u32).to_vec();
            let mut bindings: SmallVec<[_; 6]> = SmallVec::new();
            let fresh = size.is_none();
            if fresh {
                let x = self.operand(&slice).ok_or_else(|| rows::too_large("sort", self.shared))?;
                slice.words(&x, &mut words);
                bindings.push(x[0].binding);
            }
            bindings.push(bound.binding);
            self.launch(Stage::Tile, fresh.then(|| slice.ranks()), words, bindings, groups)?;
        }
        Ok(())
    }

    /// Compares all entries that are `apart`. Of what cannot be bound at once, windows are taken one by one, or
    /// two by two where entries are further apart than one reaches.
    fn step(&self, entries: &Entries<'_>, size: usize, apart: usize) -> Result<()> {
        let count = entries.rows * entries.n;
        let near = if apart < entries.window { apart } else { 0 };
        for base in (0..count).step_by(entries.window).filter(|base| near > 0 || base & apart == 0) {
            let low = entries.window(self.shared, base)?;
            let high = entries.window(self.shared, if near > 0 { base } else { base + apart })?;
            let here = entries.window.min(count - base);
            let all = if near > 0 { here / 2 } else { here };
            for first in (0..all).step_by(PAIRS) {
                let end = all.min(first + PAIRS);
                let groups = grid((end - first).div_ceil(LANES) as u64);
                let words = [groups[0] as usize, first, end, entries.n, size, near, base];
                let words = words.map(|n| n as u32).to_vec();
                self.launch(Stage::Step, None, words, smallvec![low.binding, high.binding], groups)?;
            }
        }
        Ok(())
    }

    /// Writes what of the sorted entries comes from a piece of the operand.
    fn emit(&self, part: &Space, entries: &Entries<'_>, piece: &Space) -> Result<()> {
        let (length, all) = (part.length(), entries.rows * part.length());
        let x = self.operand(piece).ok_or_else(|| rows::too_large("sort", self.shared))?;
        // Windows may begin a little before what they are asked for.
        let each = entries.window / 2;
        for begin in (0..all).step_by(each) {
            let count = each.min(all - begin);
            let first = part.first * length + begin;
            let window = |buffer, size| Window::new(self.shared, buffer, first, first + count - 1, size);
            let values = window(self.values.buffer, self.values.dtype.size());
            let places = window(self.places.buffer, 8);
            let (Some(values), Some(places)) = (values, places) else {
                return Err(rows::too_large("sort", self.shared));
            };
            let bound = entries.window(self.shared, if entries.rows == 1 { begin } else { 0 })?;
            let groups = grid(count.div_ceil(LANES) as u64);
            let numbers = [
                groups[0] as usize,
                count,
                length,
                entries.n,
                begin,
                first - values.first,
                first - places.first,
                bound.first,
                piece.walked_first,
                piece.length(),
            ];
            let mut words = numbers.map(|n| n as u32).to_vec();
            piece.words(&x, &mut words);
            let bindings = smallvec![x[0].binding, bound.binding, values.binding, places.binding];
            self.launch(Stage::Emit, Some(piece.ranks()), words, bindings, groups)?;
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

    fn fields(self) -> &'static [&'static str] {
        match self {
            Stage::Tile => &["row", "first", "rows", "length", "n", "size", "base", "origin"],
            Stage::Step => &["row", "first", "pairs", "n", "size", "near", "base"],
            Stage::Emit => &[
                "row",
                "count",
                "length",
                "n",
                "begin",
                "values_first",
                "places_first",
                "base",
                "origin",
                "held",
            ],
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
            (Stage::Tile, None) => "fn entry(at: u32) -> Entry { return entries[at - p.base]; }\n".into(),
            (Stage::Tile, Some(_)) => "fn entry(at: u32) -> Entry {\n    let place = at & (p.n - 1u);\n    \
                if (place >= p.length) { return Entry(greatest(), place); }\n    \
                return Entry(key(item(base_of(at / p.n), place - p.origin)), place);\n}\n"
                .into(),
            (Stage::Step, _) => rows::binding("others", 1, "Entry"),
            (Stage::Emit, _) => {
                let value = Type::of(rows::wide(self.dtype)).unwrap_or(Type::F32).name();
                let stored = if ty == Type::Bool { "select(0u, 1u, x)" } else { "x" };
                rows::binding("values", 2, value)
                    + &rows::binding("places", 3, "vec2<u32>")
                    + &format!("fn stored(x: Item) -> {value} {{ return {stored}; }}\n")
            }
        };
        Ok([rows::parameters(self.stage.fields(), &fields, &[]), key(ty, self.descending), entry, operand]
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
