//! Small elementwise kernels of one structure run together, and only where nothing tells the difference.

use super::*;
use crate::core::Scalar;

/// x − s y and s y, of float32.
fn step(scale: f64) -> Kernel {
    let mut program = Program::default();
    program.inputs.extend([DType::F32; 2]);
    program.scalars.push(DType::F32);
    let apply = |op, a, b| Step::Apply { op, dtype: DType::F32, args: [a, b, a] };
    program.steps.push(apply(Elementwise::mul, Reg::Input(1), Reg::Scalar(0)));
    program.steps.push(apply(Elementwise::sub, Reg::Input(0), Reg::Step(0)));
    program.outputs.extend([Reg::Step(1), Reg::Step(0)]);
    let scalars = [Scalar::Float(scale)].into_iter().collect();
    Kernel::Pointwise(Fused { program: Arc::new(program), scalars })
}

fn record(kernel: &Kernel, [x, y]: [&Tensor; 2], [a, b]: [&Tensor; 2]) {
    let outs = [a, b].map(|t| Out { buffer: &t.buffer, shape: &t.layout.shape, dtype: t.dtype });
    run(kernel, &[x.view(), y.view()], &outs).unwrap();
}

fn dispatches(device: &Device) -> usize {
    device.shared().recorder().dispatches
}

fn vector(device: &Device, count: usize, seed: u64) -> Tensor {
    Tensor::new(device, DType::F32, &[count], &floats(&noise(count, seed)))
}

/// A device that nobody else uses, so that its dispatches can be counted.
fn own(without: &str) -> Option<Device> {
    let device = device()?;
    Some(Device::create(device::place_of(&device).unwrap(), without, false).unwrap())
}

#[test]
fn kernels_of_one_structure_run_together() {
    for without in ["", "immediates"] {
        let Some(device) = own(without) else { return };
        let sizes = [1, 5, 1024, 3000, 4, 4096, 17, 2049, 900, 6, 7];
        let all: Vec<[Tensor; 4]> = sizes
            .iter()
            .enumerate()
            .map(|(i, &n)| [0, 1, 2, 3].map(|k| vector(&device, n, (4 * i + k) as u64)))
            .collect();
        device.synchronize().unwrap();
        let before = dispatches(&device);
        for [x, y, a, b] in &all {
            record(&step(0.5), [x, y], [a, b]);
        }
        device.synchronize().unwrap();
        // Of 32 bindings at least, eight segments of four buffers, then two and one.
        let most = device.shared().limits.max_storage_buffers_per_shader_stage;
        let taken = dispatches(&device) - before;
        assert!(taken <= 3 || most < 32, "{taken} dispatches, {most} bindings");
        for (i, [x, y, a, b]) in all.iter().enumerate() {
            let pairs =
                x.numbers().into_iter().zip(y.numbers()).zip(a.numbers().into_iter().zip(b.numbers()));
            for ((x, y), (a, b)) in pairs {
                let product = 0.5 * y.float() as f32;
                assert_eq!(b.float() as f32, product, "vector {i}");
                assert_eq!(a.float() as f32, x.float() as f32 - product, "vector {i}");
            }
        }
    }
}

/// What reads a result, or writes what is still to be read, waits for it.
#[test]
fn kernels_that_depend_on_each_other_do_not() {
    let Some(device) = own("") else { return };
    let n = 1000;
    let [x, y] = [1, 2].map(|seed| vector(&device, n, seed));
    let (first, second) = (x.numbers(), y.numbers());
    let [a, b, c] = [3, 4, 5].map(|seed| vector(&device, n, seed));
    record(&step(0.5), [&x, &y], [&a, &b]); // a = x − y/2, b = y/2
    record(&step(0.5), [&a, &b], [&c, &x]); // reads a and b; writes x, which was read
    record(&step(0.5), [&c, &x], [&c, &y]); // in place
    record(&step(0.25), [&c, &y], [&a, &b]); // another scalar
    let found = [&a, &b, &c].map(Tensor::numbers);
    for i in 0..n {
        let (x, y) = (first[i].float() as f32, second[i].float() as f32);
        let (a, b) = (x - 0.5 * y, 0.5 * y);
        let (c, x) = (a - 0.5 * b, 0.5 * b);
        let (c, y) = (c - 0.5 * x, 0.5 * x);
        let want = [c - 0.25 * y, 0.25 * y, c];
        for (found, want) in found.iter().zip(want) {
            assert_eq!(found[i].float() as f32, want, "element {i}");
        }
    }
}

/// Memory that is given back while kernels wait is not what the next one writes, and an upload does not overtake them.
#[test]
fn freed_memory_is_not_written_too_early() {
    let Some(device) = own("") else { return };
    let n = 600;
    let mut results = vec![];
    device.synchronize().unwrap();
    let before = dispatches(&device);
    for seed in 0..4 {
        let [x, y] = [0, 1].map(|k| vector(&device, n, 2 * seed + k));
        let outs = [0, 1].map(|_| Tensor {
            buffer: device.alloc(4 * n).unwrap(),
            layout: Layout::contiguous(Shape::new(&[n])),
            dtype: DType::F32,
        });
        record(&step(0.5), [&x, &y], [&outs[0], &outs[1]]);
        results.push(outs);
    }
    assert!(dispatches(&device) - before <= 4);
    for (seed, [a, _]) in results.iter().enumerate() {
        let [x, y] = [0, 1].map(|k| noise(n, 2 * seed as u64 + k));
        for (i, a) in a.numbers().iter().enumerate() {
            assert_eq!(a.float() as f32, x[i] - 0.5 * y[i], "vector {seed}, element {i}");
        }
    }
}
