//! Buffers, the order of uploads, kernels and read-backs, limits and failures.

use super::*;
use crate::core::{Error, Scalar};
use crate::ir::Elementwise as E;
use crate::ir::kernel::Distribution;

fn plus_one(dtype: DType) -> Kernel {
    let args = [Arg::Input(0), Arg::Scalar(Scalar::Int(1))].into_iter().collect();
    Kernel::Apply { op: E::add, dtype, args }
}

#[test]
fn bytes_come_back_as_they_went() {
    let Some(device) = device() else { return };
    for len in [0, 1, 3, 4, 5, 255, 256, 257, 100_003] {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        let buffer = device.upload(&bytes).unwrap();
        assert_eq!(buffer.len(), len);
        assert_eq!(buffer.download(0..len).unwrap(), bytes);
        for range in [len / 3..len / 2, len / 2..len] {
            assert_eq!(buffer.download(range.clone()).unwrap(), bytes[range]);
        }
        assert!(matches!(buffer.download(0..len + 1), Err(Error::Index(_))));
    }
}

#[test]
fn uploads_do_not_overtake_recorded_kernels() {
    let Some(device) = device() else { return };
    let shape = Shape::new(&[1000]);
    let mut kept = vec![];
    for round in 0..200 {
        let x = Tensor::new(&device, DType::I32, &[1000], &vec![Number::Int(round); 1000]);
        let y = device.alloc(4000).unwrap();
        run(&plus_one(DType::I32), &[x.view()], &[Out { buffer: &y, shape: &shape, dtype: DType::I32 }])
            .unwrap();
        // Its memory goes to a later upload while the kernel that reads it may still be waiting.
        drop(x);
        kept.push((round, y));
        if round % 7 == 0 {
            kept.remove(0);
        }
    }
    for (round, y) in kept {
        assert_eq!(decode(DType::I32, &y.download(0..4000).unwrap()), vec![Number::Int(round + 1); 1000]);
    }
}

#[test]
fn freed_memory_serves_again() {
    let Some(device) = device() else { return };
    let size = 54_321_000;
    let (first, before) = (device.alloc(size).unwrap(), device.usage());
    let id = first.raw().id;
    drop(first);
    assert!(device.usage().kept >= size as u64);
    // Other tests allocate at the same time, but not this size.
    let again = device.alloc(size - 100).unwrap();
    assert_eq!(again.raw().id, id);
    assert!(device.usage().peak >= before.in_use.min(size as u64));
    drop(again);
    device.empty_cache().unwrap();
    assert_ne!(device.alloc(size).unwrap().raw().id, id);
}

#[test]
fn copies_stand_in_line() {
    let Some(device) = device() else { return };
    let x = Tensor::new(&device, DType::I32, &[64], &vec![Number::Int(5); 64]);
    let shape = x.layout.shape.clone();
    let out = Out { buffer: &x.buffer, shape: &shape, dtype: DType::I32 };
    let y = device.upload(&[0; 256]).unwrap();
    run(&plus_one(DType::I32), &[x.view()], &[out]).unwrap();
    x.buffer.copy_to(0, &y, 128, 128).unwrap();
    run(&plus_one(DType::I32), &[x.view()], &[out]).unwrap();
    let got = decode(DType::I32, &y.download(0..256).unwrap());
    assert_eq!(got[..32], vec![Number::Int(0); 32]);
    assert_eq!(got[32..], vec![Number::Int(6); 32]);
    assert_eq!(x.numbers(), vec![Number::Int(7); 64]);
    assert!(x.buffer.copy_to(2, &y, 0, 4).is_err());
    assert!(x.buffer.copy_to(0, &y, 0, 260).is_err());
}

#[test]
fn more_than_one_binding_or_row_of_the_grid() {
    let Some(device) = device() else { return };
    // 1 byte each: more workgroups than one dimension of the grid counts.
    let many = 70_000_001;
    let x = run_on(&device, &Kernel::Fill(Scalar::Int(3)), &[], &[many], DType::U8).unwrap();
    let y = run_on(&device, &plus_one(DType::U8), &[&x], &[many], DType::U8).unwrap();
    assert!(y.buffer.download(0..many).unwrap().iter().all(|&b| b == 4));
    drop((x, y));
    // More than the 128 MiB that lavapipe binds, contiguous and as a broadcast row.
    let (rows, columns) = (13, 3_000_001);
    let row: Vec<f32> = (0..columns).map(|i| (i % 1000) as f32).collect();
    let mut row = Tensor::new(&device, DType::F32, &[columns], &floats(&row));
    row.layout = row.layout.broadcast_to(&[rows, columns].into()).unwrap();
    let x = run_on(&device, &Kernel::Copy, &[&row], &[rows, columns], DType::F32).unwrap();
    let y = run_on(&device, &plus_one(DType::F32), &[&x], &[rows, columns], DType::F32).unwrap();
    for (at, got) in
        decode(DType::F32, &y.buffer.download(0..4 * rows * columns).unwrap()).into_iter().enumerate()
    {
        assert_eq!(got, Number::Float((at % columns % 1000 + 1) as f64), "element {at}");
    }
}

#[test]
fn entries_that_begin_at_no_quad() {
    let Some(device) = narrow() else { return };
    let count = 400_003;
    for dtype in [DType::F32, DType::U8, DType::I64] {
        let numbers: Vec<Number> = (0..3 * count).map(|i| Number::Int((i % 97) as i128)).collect();
        let x = Tensor::new(&device, dtype, &[3, count], &numbers);
        let y = run_on(&device, &plus_one(dtype), &[&x], &[3, count], dtype).unwrap().numbers();
        assert!(y.iter().zip(&numbers).all(|(y, x)| y.float() == x.float() + 1.0), "{dtype}");
        let index = Tensor::new(&device, DType::I64, &[3], &[2, 0, 2].map(Number::Int));
        let y =
            run_on(&device, &Kernel::Take { axis: 0 }, &[&x, &index], &[3, count], dtype).unwrap().numbers();
        let x = x.numbers();
        for (row, from) in [2, 0, 2].into_iter().enumerate() {
            assert!(y[row * count..][..count] == x[from * count..][..count], "{dtype} row {row}");
        }
    }
    for (start, step) in [(Scalar::Int(7), Scalar::Int(3)), (Scalar::Float(0.5), Scalar::Float(0.25))] {
        let y =
            run_on(&device, &Kernel::Arange { start, step }, &[], &[count], DType::F32).unwrap().numbers();
        let at = |i: usize| start.as_f64() + step.as_f64() * i as f64;
        assert!(y.iter().enumerate().all(|(i, y)| y.float() == at(i) as f32 as f64), "{start:?}");
    }
    let Some(whole) = self::device() else { return };
    for distribution in [Distribution::Uniform, Distribution::Normal] {
        let kernel = Kernel::Random { distribution, key: 5, offset: 3 };
        let [a, b] =
            [&device, &whole].map(|d| run_on(d, &kernel, &[], &[count], DType::F32).unwrap().numbers());
        assert!(a == b, "{distribution:?}");
    }
}

#[test]
fn neighbours_are_in_one_subgroup_here() {
    // Else no test would run the kernels that use them.
    for device in devices() {
        let size = device.shared().subgroup;
        assert!(if device.adapter().subgroups { size >= 4 } else { size == 1 }, "{size}");
    }
}

#[test]
fn too_much_memory_is_an_error() {
    let Some(device) = device() else { return };
    for bytes in [usize::MAX, 1 << 50, device.adapter().max_buffer as usize + 1] {
        let error = device.alloc(bytes).err().unwrap();
        assert!(matches!(error, Error::Memory(_)), "{error:?}");
    }
    assert_eq!(device.upload(&[1, 2, 3]).unwrap().download(0..3).unwrap(), [1, 2, 3]);
}

#[test]
fn optional_features_are_optional() {
    let Some(full) = device() else { return };
    let at = device::place_of(&full).unwrap();
    let device = Device::create(at, "immediates,int64,float16,subgroups", false).unwrap();
    assert!(!device.adapter().int64 && device.shared().immediates == 0);
    let values = noise(1000, 1);
    let mut x = Tensor::new(&device, DType::F32, &[1000], &floats(&values));
    // More kernels than the uniform arena has room for.
    for _ in 0..100 {
        x = run_on(&device, &plus_one(DType::F32), &[&x], &[1000], DType::F32).unwrap();
    }
    for (got, value) in x.numbers().into_iter().zip(values) {
        assert!((got.float() - 100.0 - value as f64).abs() < 1e-3);
    }
    let error = run_on(&device, &Kernel::Fill(Scalar::Int(1)), &[], &[4], DType::F64).err().unwrap();
    assert!(error.to_string().contains("float64"), "{error}");
    assert!(Device::create(at, "magic", false).is_err());
}

#[test]
fn a_limit_holds_and_names_the_largest_holders() {
    let Some(full) = device() else { return };
    let device = Device::create(device::place_of(&full).unwrap(), "", false).unwrap();
    device.set_limit(Some(10 << 20));
    let held: Vec<Buffer> = [4 << 20, 1 << 20, 1 << 20].map(|bytes| device.alloc(bytes).unwrap()).into();
    let error = device.alloc(5 << 20).err().unwrap();
    assert!(matches!(error, Error::Memory(_)));
    let text = error.to_string();
    assert!(
        text.contains("out of memory for 5.0 MiB: the limit is 10.0 MiB and 6.0 MiB are in use"),
        "{text}"
    );
    assert!(text.contains("1 × 4.0 MiB, 2 × 1.0 MiB"), "{text}");
    // What is kept makes room.
    drop(held);
    assert_eq!((device.usage().in_use, device.usage().kept), (0, 6 << 20));
    let large = device.alloc(9 << 20).unwrap();
    assert!(device.usage().kept <= 1 << 20);
    device.set_limit(None);
    drop((large, device.alloc(50 << 20).unwrap()));
}

#[test]
fn a_lost_device_says_so_and_another_can_be_opened() {
    let Some(full) = device() else { return };
    let at = device::place_of(&full).unwrap();
    let device = Device::create(at, "", false).unwrap();
    let x = device.upload(&[1, 2, 3, 4]).unwrap();
    device.lose();
    assert!(device.synchronize().is_err());
    assert!(device.is_lost());
    for error in [x.download(0..4).err(), device.alloc(4).err(), device.synchronize().err()] {
        let error = error.unwrap().to_string();
        assert!(error.contains("was lost") && error.contains(&device.adapter().name), "{error}");
    }
    let later = Device::create(at, "", false).unwrap();
    let out = later.alloc(4).unwrap();
    let (shape, layout) = (Shape::new(&[1]), Layout::contiguous(Shape::new(&[1])));
    let (x, out) = (
        View { buffer: &x, layout: &layout, dtype: DType::F32 },
        Out { buffer: &out, shape: &shape, dtype: DType::F32 },
    );
    let error = run(&plus_one(DType::F32), &[x], &[out]).err().unwrap().to_string();
    assert!(error.contains("was lost"), "{error}");
    assert_eq!(later.upload(&[5]).unwrap().download(0..1).unwrap(), [5]);
}

#[test]
fn a_shader_that_does_not_compile_is_an_error() {
    let Some(device) = device() else { return };
    let source = pipeline::Source {
        label: "broken".into(),
        wgsl: "@compute @workgroup_size(1) fn main() { let x: u32 = 1.5; }".into(),
        bindings: 0,
        parameters: pipeline::Parameters::Uniform,
    };
    let shared = device.shared();
    let key = pipeline::Key::Shader("broken", vec![]);
    let error = shared.pipelines.get(shared, &key, || Ok(source)).err().unwrap().to_string();
    assert!(error.contains("broken: the shader does not compile"), "{error}");
    device.synchronize().unwrap();
}

#[test]
fn threads_share_a_device() {
    let Some(device) = device() else { return };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..20 {
                    let start = thread * 100 + round;
                    let mut x = Tensor::new(device, DType::I32, &[777], &vec![Number::Int(start); 777]);
                    for _ in 0..10 {
                        x = run_on(device, &plus_one(DType::I32), &[&x], &[777], DType::I32).unwrap();
                    }
                    assert_eq!(x.numbers(), vec![Number::Int(start + 10); 777]);
                }
            });
        }
    });
}

/// Runs a test that is ignored otherwise in a process of its own, where it may spoil the whole backend.
fn in_a_process(test: &str, set: &[(&str, &str)], unset: &[&str]) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([&format!("gpu::tests::memory::{test}"), "--exact", "--ignored", "--nocapture"]);
    command.envs(set.iter().copied());
    for name in unset {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_forked_child_gets_an_error() {
    in_a_process("child_of_a_fork", &[], &[]);
}

#[test]
#[ignore = "run by another test"]
fn child_of_a_fork() {
    // A child of a process that never touched its GPU may use it.
    after_fork_in_child();
    let Some(device) = device() else { return };
    let x = device.upload(&[1, 2, 3, 4]).unwrap();
    after_fork_in_child();
    let errors = [
        x.download(0..4).err(),
        device.alloc(4).err(),
        super::super::alloc(0, 4).err(),
        adapters().err(),
        place("").err(),
    ];
    for error in errors {
        assert!(error.unwrap().to_string().contains("spawn"));
    }
    drop(x);
    drop(device);
}

#[test]
fn without_a_driver_the_error_says_so() {
    in_a_process("no_driver", &[("VK_DRIVER_FILES", "/dev/null"), ("VK_ICD_FILENAMES", "/dev/null")], &[]);
}

#[test]
#[ignore = "run by another test"]
fn no_driver() {
    if cfg!(target_os = "linux") {
        assert!(adapters().unwrap().is_empty());
        let error = place("").err().unwrap();
        assert!(matches!(&error, Error::Device(message) if message.contains("driver")), "{error}");
    }
}

#[test]
fn software_is_used_only_when_named() {
    in_a_process("software_unnamed", &[], &[ADAPTER_VARIABLE]);
    in_a_process("nothing_of_that_name", &[(ADAPTER_VARIABLE, "no such card")], &[]);
}

#[test]
#[ignore = "run by another test"]
fn software_unnamed() {
    let all = adapters().unwrap();
    assert!(all.iter().all(|a| a.rejection.is_some() || a.adapter.kind != Kind::Software));
    match place("").and_then(open) {
        Ok(device) => assert_ne!(device.adapter().kind, Kind::Software),
        Err(error) => assert!(all.iter().all(|a| error.to_string().contains(&a.adapter.name)), "{error}"),
    }
}

#[test]
#[ignore = "run by another test"]
fn nothing_of_that_name() {
    let error = place("").err().unwrap().to_string();
    assert!(adapters().unwrap().is_empty() || error.contains("does not contain \"no such card\""), "{error}");
}
