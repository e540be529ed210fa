//! One dispatch of a convolution: its parameters, and the texts that its shader takes from the host.

use super::{Images, Sizes, area};
use crate::bail;
use crate::core::{DType, Result};
use crate::gpu::View;
use crate::gpu::cooperative::Matrices;
use crate::gpu::device::Shared;
use crate::gpu::ending::{Ending, Tail};
use crate::gpu::matmul::choice::{Sizes as Extent, Sums, TILES, Tile};
use crate::gpu::matmul::parameters::{Reads, block, operand, tile_constants, tile_head};
use crate::gpu::pipeline::{Parameters, Source};
use crate::gpu::pointwise::{LANES, Window, grid};
use crate::gpu::rows::{self, Launch};
use crate::gpu::shaders::{
    CONV_4X4, CONV_8X8, CONV_COOPERATIVE, CONV_DEPTHWISE, CONV_DIRECT, CONV_INPUT_4X4, CONV_INPUT_8X8,
    CONV_INPUT_COOPERATIVE, CONV_INPUT_DIRECT, CONV_WEIGHT_4X4, CONV_WEIGHT_8X8, CONV_WEIGHT_COOPERATIVE,
    CONV_WEIGHT_REDUCE, Shader,
};

/// Elements to a workgroup of the kernel that makes them one by one.
const DIRECT_LANES: u64 = 64;

/// Which of the three products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    Forward,
    Input,
    Weight,
}

/// How a product is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Work {
    Tile(Tile),
    Direct,
    Reduce,
    Depthwise,
}

/// Sizes and steps, of rows and of columns.
pub(super) struct Shape2 {
    pub x: [usize; 2],
    pub out: [usize; 2],
    pub window: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
}

const FIELDS: [&str; 36] = [
    "row",
    "parts",
    "each",
    "groups",
    "m",
    "n",
    "k",
    "channels",
    "filters",
    "x_y",
    "x_x",
    "out_y",
    "out_x",
    "window_y",
    "window_x",
    "stride_y",
    "stride_x",
    "padding_y",
    "padding_x",
    "dilation_y",
    "dilation_x",
    "period_y",
    "period_x",
    "digits_y",
    "digits_x",
    "plane_y",
    "plane_x",
    "step_outer",
    "step_y",
    "step_x",
    "a_offset",
    "a_k",
    "b_offset",
    "results",
    "length",
    "out_offset",
];

/// A dispatch. `a` is the weight, or dy where the weight's gradient is sought; `b` has the images, as has dy.
pub(super) struct Call<'a> {
    pub sizes: &'a Sizes<'a>,
    pub way: Way,
    pub work: Work,
    pub extent: &'a Extent,
    pub a: &'a View<'a>,
    pub b: &'a View<'a>,
    pub images: Images,
}

impl Call<'_> {
    /// Records it: `results` to each of its parts, which are sums of `each` steps.
    pub fn run(
        &self,
        shared: &Shared,
        [parts, each]: [usize; 2],
        results: usize,
        tail: &Tail<'_>,
    ) -> Result<()> {
        let &Call { sizes, way, work, extent, a, b, .. } = self;
        let Extent { m, n, k, batches } = *extent;
        let of_a = match way {
            Way::Weight => sizes.window(shared, a, &self.images),
            _ => {
                let first = a.layout.offset;
                let window = Window::new(shared, a.buffer, first, first + a.layout.count(), a.dtype.size());
                window.map(|window| {
                    let offset = first - window.first;
                    (window, offset)
                })
            }
        };
        let (Some((of_a, a_offset)), Some((of_b, b_offset))) = (of_a, sizes.window(shared, b, &self.images))
        else {
            bail!(Device, "{}: operands do not fit what {} binds at once", sizes.op, shared.adapter);
        };
        let mut pairs = sizes.pairs();
        let (groups, plane) = (sizes.conv.groups, |size: [usize; 2]| area(size) as isize);
        let [dilation, stride] = [pairs.dilation, pairs.stride].map(|pair| pair.map(|x| x as isize));
        let period = [0, 1].map(|axis| sizes.period(axis));
        // Of b: the lower digits of k, its planes, and what each digit adds.
        let (digits, planes, outer, steps) = match way {
            Way::Forward => (pairs.window, pairs.x, plane(pairs.x), dilation),
            Way::Input => {
                let falls =
                    [0, 1].map(|axis| -((period[axis] * pairs.dilation[axis] / pairs.stride[axis]) as isize));
                (pairs.window, pairs.out, plane(pairs.out), falls)
            }
            Way::Weight => (pairs.out, pairs.x, plane(pairs.x) * (groups * sizes.channels) as isize, stride),
        };
        let length = match way {
            Way::Forward => area(pairs.out),
            Way::Input => area(pairs.x),
            Way::Weight => n,
        };
        let mut columns = n;
        if work == Work::Depthwise {
            columns = results;
            if way == Way::Input {
                // The same with the window turned round, over dy.
                pairs.padding = [0, 1].map(|axis| {
                    let reach = pairs.dilation[axis] * (pairs.window[axis] - 1);
                    reach.wrapping_sub(pairs.padding[axis])
                });
                pairs.out = pairs.x;
            }
        }
        let groups_of = grid(match work {
            Work::Tile(tile) => (parts * batches * m.div_ceil(tile.size) * n.div_ceil(tile.size)) as u64,
            Work::Direct => ((parts * batches * m * n) as u64).div_ceil(DIRECT_LANES),
            Work::Reduce => (parts * batches * m * n) as u64,
            Work::Depthwise => (results as u64).div_ceil(LANES),
        });
        let row = if work == Work::Depthwise {
            groups_of[0] as usize * LANES as usize
        } else {
            groups_of[0] as usize
        };
        let mut words: Vec<u32> = Vec::with_capacity(FIELDS.len() + 8);
        let mut push = |sizes: &[usize]| words.extend(sizes.iter().map(|&size| size as u32));
        push(&[row, parts, each, groups, m, columns, k, sizes.channels, sizes.filters]);
        for pair in [
            pairs.x,
            pairs.out,
            pairs.window,
            pairs.stride,
            pairs.padding,
            pairs.dilation,
            period,
            digits,
            planes,
        ] {
            push(&pair);
        }
        push(&[outer as usize, steps[0] as usize, steps[1] as usize]);
        push(&[a_offset, 1, b_offset, results, length, tail.offset]);
        tail.words(&mut words);

        // Neighbouring columns of b are neighbours in the output but for classes of pixels.
        let quads = matches!(work, Work::Tile(_))
            && tail.quads(length)
            && (way != Way::Input || pairs.stride == [1, 1]);
        let quads_of_a = way == Way::Forward && k.is_multiple_of(4) && a_offset.is_multiple_of(4);
        let variant = Variant {
            way,
            work,
            dtypes: [a.dtype, b.dtype],
            window: if work == Work::Depthwise { pairs.window } else { [0; 2] },
            quads_of_a,
        };
        let ending = tail.ending(quads, "p.length", 2);
        let mut key = variant.key();
        key.extend(ending.key());
        let bindings = [of_a.binding, of_b.binding].into_iter().chain(tail.bindings()).collect();
        let program = tail.epilogue.map(|fused| fused.program.clone());
        let launch =
            Launch { shader: variant.shader(), variant: key, program, words, bindings, groups: groups_of };
        launch.run(shared, || variant.constants(&ending))
    }
}

/// What specialises the shaders.
#[derive(Clone, Copy)]
struct Variant {
    way: Way,
    work: Work,
    dtypes: [DType; 2],
    /// Of a depthwise kernel.
    window: [usize; 2],
    /// Whether rows of a are whole quads, forward.
    quads_of_a: bool,
}

impl Variant {
    fn key(&self) -> Vec<u32> {
        let tile = if let Work::Tile(tile) = self.work { tile.number() } else { 0 };
        let [a, b] = self.dtypes.map(|dtype| dtype as u32);
        let [r, s] = self.window.map(|size| size as u32);
        vec![a | b << 8 | u32::from(self.quads_of_a) << 16 | (self.way as u32) << 17, tile, r | s << 8]
    }

    fn shader(&self) -> &'static Shader {
        match (self.way, self.work) {
            (_, Work::Depthwise) => &CONV_DEPTHWISE,
            (way, Work::Tile(tile)) => match (way, tile.sums) {
                (Way::Forward, Sums::Four) => &CONV_4X4,
                (Way::Forward, Sums::Eight) => &CONV_8X8,
                (Way::Forward, Sums::Matrices(_)) => &CONV_COOPERATIVE,
                (Way::Input, Sums::Four) => &CONV_INPUT_4X4,
                (Way::Input, Sums::Eight) => &CONV_INPUT_8X8,
                (Way::Input, Sums::Matrices(_)) => &CONV_INPUT_COOPERATIVE,
                (Way::Weight, Sums::Four) => &CONV_WEIGHT_4X4,
                (Way::Weight, Sums::Eight) => &CONV_WEIGHT_8X8,
                (Way::Weight, Sums::Matrices(_)) => &CONV_WEIGHT_COOPERATIVE,
            },
            (Way::Forward, _) => &CONV_DIRECT,
            (Way::Input, _) => &CONV_INPUT_DIRECT,
            (Way::Weight, _) => &CONV_WEIGHT_REDUCE,
        }
    }

    fn constants(&self, ending: &Ending<'_>) -> Result<String> {
        let Variant { way, work, dtypes: [a, b], window: [r, s], quads_of_a } = *self;
        let head = if let Work::Tile(tile) = work { tile_head(tile) } else { String::new() };
        let mut text = head + &ending.fields(&FIELDS) + &ending.text()?;
        let singles = Reads::Singles { along: false };
        let of_a = match (way, work) {
            (Way::Forward, Work::Tile(_)) if quads_of_a => Reads::QuadsAlong,
            (Way::Forward | Way::Weight, _) => Reads::Singles { along: true },
            _ => singles,
        };
        text += &operand("a", 0, a, of_a, true);
        text += &operand("b", 1, b, singles, false);
        let Work::Tile(tile) = work else {
            text += &format!(
                "const WINDOW_Y: u32 = {r}u;\nconst WINDOW_X: u32 = {s}u;\nconst TURNED: bool = {};\n",
                way == Way::Input
            );
            return Ok(text);
        };
        let of_b = Reads::Singles { along: way == Way::Weight };
        text += &tile_constants(tile, [of_a, of_b]);
        if way == Way::Forward {
            // Element by element, rows are k apart.
            text += &block("a", "m", of_a).replace("p.a_m", "p.k");
            if quads_of_a {
                // What the element by element kernels call; tiles do not.
                text += "fn load_a(at: u32) -> Value { return four_a(at)[at % 4u]; }\n";
            }
        }
        text += match ending.quads {
            true => {
                "fn store_row(batch: u32, row: u32, column: u32, sums: vec4<Value>) {
    if (row >= p.m || column >= p.n) { return; }
    let place = place_of(batch, row, column);
    store_four(place.x, place.y, sums);
}
"
            }
            false => {
                "fn store_one(batch: u32, row: u32, column: u32, sum: Value) {
    if (column >= p.n) { return; }
    let place = place_of(batch, row, column);
    if (place.x != NOWHERE) { store(place.x, place.y, sum); }
}
fn store_row(batch: u32, row: u32, column: u32, sums: vec4<Value>) {
    if (row >= p.m) { return; }
    store_one(batch, row, column, sums.x);
    store_one(batch, row, column + 1u, sums.y);
    store_one(batch, row, column + 2u, sums.z);
    store_one(batch, row, column + 3u, sums.w);
}
"
            }
        };
        Ok(text)
    }
}

/// All variants of the shaders of this file, without an epilogue, which products try out.
pub(super) fn variants(parameters: Parameters) -> Vec<(String, Source)> {
    let mut all = vec![];
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        for way in [Way::Forward, Way::Input, Way::Weight] {
            let matrices = Matrices::SAMPLES.into_iter().filter(|_| dtype == DType::F16);
            let tiles = TILES.into_iter().chain(matrices.map(Tile::of_matrices)).map(Work::Tile);
            for work in tiles.chain([Work::Direct, Work::Reduce, Work::Depthwise]) {
                for quads in [false, true] {
                    let possible = match work {
                        Work::Tile(_) => true,
                        Work::Direct => way != Way::Weight && !quads,
                        Work::Reduce => way == Way::Weight && !quads,
                        Work::Depthwise => way != Way::Weight && !quads,
                    };
                    if !possible {
                        continue;
                    }
                    let variant =
                        Variant { way, work, dtypes: [dtype; 2], window: [3, 3], quads_of_a: quads };
                    let ending = Ending {
                        sum: DType::F32,
                        product: dtype,
                        out: dtype,
                        epilogue: None,
                        ranks: [0, 0],
                        quads,
                        length: "p.length",
                        bound: 2,
                    };
                    if let Ok(text) = variant.constants(&ending) {
                        let name = format!("{} {dtype} {work:?} {way:?} {quads}", variant.shader().name);
                        all.push((name, rows::source(variant.shader(), &text, 3, parameters)));
                    }
                }
            }
        }
    }
    all
}
