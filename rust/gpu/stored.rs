//! Compiled pipelines kept on disk between processes, where wgpu has a pipeline cache (Vulkan): read when a device is
//! opened, written when the program ends. A file that is broken, old or of another driver is as good as none.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What files begin with, before the length and the hash of what the driver gave.
const MAGIC: &[u8; 8] = b"oxonpipe";
const HEAD: usize = 24;
/// The largest file that is read or written.
const MOST: usize = 256 << 20;

/// The driver's cache of a device, and where it is kept.
pub(super) struct Stored {
    pub cache: wgpu::PipelineCache,
    file: PathBuf,
    /// Pipelines that the file does not have.
    fresh: AtomicUsize,
}

impl Stored {
    /// The cache of a device with [`wgpu::Features::PIPELINE_CACHE`], begun with what the file has; `None` without
    /// a place for files.
    pub fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Option<Stored> {
        let file = folder()?.join(wgpu::util::pipeline_cache_key(info)?);
        let data = read(&file);
        // SAFETY: the data is what `get_data` gave for this vendor and device, which its hash attests; whether the
        // driver is the same wgpu checks.
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("pipelines"),
                data: data.as_deref(),
                fallback: true,
            })
        };
        Some(Stored { cache, file, fresh: AtomicUsize::new(0) })
    }

    /// Notes that a pipeline was compiled.
    pub fn grew(&self) {
        self.fresh.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes the file if there is something new. Where that fails, the next process compiles again.
    pub fn save(&self) {
        if self.fresh.swap(0, Ordering::Relaxed) > 0
            && let Some(data) = self.cache.get_data()
        {
            let _ = write(&self.file, &data);
        }
    }
}

/// The user's folder for what can be made again.
fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = match cfg!(windows) {
        true => set("LOCALAPPDATA"),
        false => set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache"))),
    };
    Some(base?.join("oxon"))
}

fn head(data: &[u8]) -> [u8; HEAD] {
    // FNV-1a.
    let hash = data
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&(data.len() as u64).to_le_bytes());
    head[16..].copy_from_slice(&hash.to_le_bytes());
    head
}

/// What a file holds, if it is whole.
fn read(file: &Path) -> Option<Vec<u8>> {
    if fs::metadata(file).ok()?.len() > (MOST + HEAD) as u64 {
        return None;
    }
    let bytes = fs::read(file).ok()?;
    let (told, data) = bytes.split_at_checked(HEAD)?;
    (told == head(data)).then(|| data.to_vec())
}

/// Writes a file under another name first, so that nobody sees half of it.
fn write(file: &Path, data: &[u8]) -> std::io::Result<()> {
    let Some(folder) = file.parent().filter(|_| data.len() <= MOST) else { return Ok(()) };
    fs::create_dir_all(folder)?;
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    let written = fs::File::create(&temporary)
        .and_then(|mut to| to.write_all(&head(data)).and_then(|()| to.write_all(data)))
        .and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("oxon-stored-{}", std::process::id()));
        let file = folder.join("pipelines");
        assert_eq!(read(&file), None);
        let data: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
        for data in [&data[..], &[]] {
            write(&file, data).unwrap();
            assert_eq!(read(&file).as_deref(), Some(data));
        }
        write(&file, &data).unwrap();
        let good = fs::read(&file).unwrap();
        for at in [0, 9, 20, HEAD, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, bad).unwrap();
            assert_eq!(read(&file), None, "byte {at}");
        }
        for length in [0, 5, HEAD, good.len() - 1] {
            fs::write(&file, &good[..length]).unwrap();
            assert_eq!(read(&file), None, "{length} bytes");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file stays");
        fs::remove_dir_all(&folder).unwrap();
    }
}
