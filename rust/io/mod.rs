//! Files of tensors. Safetensors: a header of names, dtypes, shapes and offsets, then the bytes. Files are
//! written under a temporary name and renamed, so that a crash leaves the old file whole.

use crate::bail;
use crate::core::{DType, Error, Result, Shape};
use crate::cpu::Memory;
use crate::graph::{Buffer, Device, Tensor};
use safetensors::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

const DTYPES: [(DType, Dtype); 13] = [
    (DType::Bool, Dtype::BOOL),
    (DType::U8, Dtype::U8),
    (DType::U16, Dtype::U16),
    (DType::U32, Dtype::U32),
    (DType::U64, Dtype::U64),
    (DType::I8, Dtype::I8),
    (DType::I16, Dtype::I16),
    (DType::I32, Dtype::I32),
    (DType::I64, Dtype::I64),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::F32, Dtype::F32),
    (DType::F64, Dtype::F64),
];

/// A row-major CPU tensor that has run, as the format's writer sees it.
struct Entry(Tensor);

impl View for &Entry {
    fn dtype(&self) -> Dtype {
        DTYPES[self.0.dtype() as usize].1
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        if self.0.count() == 0 {
            return Cow::Borrowed(&[]);
        }
        let size = self.0.dtype().size();
        let start = self.0.layout().offset * size;
        let bytes = self.0.host().map_or(&[][..], Memory::bytes);
        Cow::Borrowed(&bytes[start..start + self.data_len()])
    }

    fn data_len(&self) -> usize {
        self.0.count() * self.0.dtype().size()
    }
}

fn io(path: &Path, doing: &str, error: impl std::fmt::Display) -> Error {
    Error::Io(format!("{doing} {}: {error}", path.display()))
}

/// Writes row-major CPU tensors that have run.
pub fn save(path: &Path, tensors: Vec<(String, Tensor)>, metadata: HashMap<String, String>) -> Result<()> {
    let entries: Vec<(String, Entry)> = tensors.into_iter().map(|(name, t)| (name, Entry(t))).collect();
    let named = entries.iter().map(|(name, entry)| (name.as_str(), entry));
    let metadata = if metadata.is_empty() { None } else { Some(metadata) };
    write_then_rename(path, |temporary| {
        safetensors::serialize_to_file(named, metadata, temporary).map_err(|e| io(path, "cannot write", e))
    })
}

/// Has `write` make a file beside `path`, flushes it to the disk, and gives it the name.
fn write_then_rename(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let Some(name) = path.file_name() else { bail!(Io, "cannot write {}: it names no file", path.display()) };
    let mut temporary_name = name.to_owned();
    temporary_name.push(format!(".{}.part", std::process::id()));
    let temporary: PathBuf = path.with_file_name(temporary_name);
    let result = write(&temporary).and_then(|()| {
        let file = std::fs::OpenOptions::new().append(true).open(&temporary);
        file.and_then(|mut f| f.flush().and_then(|()| f.sync_all()))
            .map_err(|e| io(path, "cannot write", e))?;
        std::fs::rename(&temporary, path).map_err(|e| io(path, "cannot write", e))
    });
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// Reads all tensors of a file, in the order of their names, and its metadata.
pub fn load(path: &Path) -> Result<(Vec<(String, Tensor)>, HashMap<String, String>)> {
    let bytes = std::fs::read(path).map_err(|e| io(path, "cannot read", e))?;
    let bad = |e: safetensors::SafeTensorError| io(path, "no valid safetensors file:", e);
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
    let file = SafeTensors::deserialize(&bytes).map_err(bad)?;
    let mut out = vec![];
    for (name, view) in file.tensors() {
        let Some(&(dtype, _)) = DTYPES.iter().find(|(_, d)| *d == view.dtype()) else {
            bail!(
                DType,
                "load: {name:?} in {} has dtype {:?}, which oxon lacks",
                path.display(),
                view.dtype()
            );
        };
        let shape = Shape::checked("load", view.shape())?;
        if view.data().len() != shape.count() * dtype.size() {
            bail!(
                Io,
                "no valid safetensors file: {}: {name:?} has {} bytes for {shape}",
                path.display(),
                view.data().len()
            );
        }
        if dtype == DType::Bool && view.data().iter().any(|&b| b > 1) {
            bail!(Io, "no valid safetensors file: {}: a bool of {name:?} is neither 0 nor 1", path.display());
        }
        let buffer = Buffer::Cpu(Memory::copy_of(view.data())?);
        out.push((name, Tensor::from_buffer(Device::Cpu, shape, dtype, buffer)));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((out, header.metadata().clone().unwrap_or_default()))
}
