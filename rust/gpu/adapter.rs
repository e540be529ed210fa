//! Which GPUs there are, and which of them may be used: listing, naming and choosing adapters. Nothing
//! is looked for before somebody asks, and nothing here opens a device.

use super::cooperative;
use crate::bail;
use crate::core::Result;
use std::fmt;

/// The environment variable that names an adapter by a part of its name.
pub const ADAPTER_VARIABLE: &str = "OXON_GPU_ADAPTER";

/// What kind of device an adapter drives; the order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Discrete,
    Integrated,
    Virtual,
    Other,
    /// A driver that computes on the CPU; used only when it is named.
    Software,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Discrete => "discrete",
            Kind::Integrated => "integrated",
            Kind::Virtual => "virtual",
            Kind::Other => "other",
            Kind::Software => "software",
        })
    }
}

/// An adapter as users see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    pub name: String,
    pub vendor: String,
    /// The interface that reaches it: `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    pub kind: Kind,
    pub driver: String,
    /// The largest buffer, in bytes.
    pub max_buffer: u64,
    /// The largest part of a buffer that one kernel can see, in bytes.
    pub max_binding: u64,
    pub float16: bool,
    pub int64: bool,
    pub subgroups: bool,
    /// Rows and columns of the matrices of half floats that subgroups multiply together; 0 if they do not.
    pub cooperative: usize,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.backend, self.kind)
    }
}

impl Adapter {
    pub(super) fn of(adapter: &wgpu::Adapter) -> Adapter {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let mut found = Adapter {
            vendor: vendor(info.vendor).map_or_else(|| format!("{:#06x}", info.vendor), str::to_string),
            backend: match info.backend {
                wgpu::Backend::Vulkan => "vulkan",
                wgpu::Backend::Metal => "metal",
                wgpu::Backend::Dx12 => "dx12",
                _ => "other",
            },
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
                wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
                wgpu::DeviceType::VirtualGpu => Kind::Virtual,
                wgpu::DeviceType::Other => Kind::Other,
                wgpu::DeviceType::Cpu => Kind::Software,
            },
            driver: [info.driver, info.driver_info].join(" ").trim().to_string(),
            name: info.name,
            max_buffer: limits.max_buffer_size,
            max_binding: limits.max_storage_buffer_binding_size,
            float16: false,
            int64: false,
            subgroups: false,
            cooperative: cooperative::size(adapter),
        };
        found.set_features(adapter.features());
        found
    }

    /// Takes over which optional features there are.
    pub(super) fn set_features(&mut self, features: wgpu::Features) {
        self.float16 = features.contains(wgpu::Features::SHADER_F16);
        self.int64 = features.contains(wgpu::Features::SHADER_INT64);
        self.subgroups = features.contains(wgpu::Features::SUBGROUP);
        if !features.contains(cooperative::features()) {
            self.cooperative = 0;
        }
    }

    /// Why this adapter is not used, if it is not. `wanted` is a part of a name, from the user.
    pub(super) fn rejection(&self, all: &[Adapter], wanted: Option<&str>) -> Option<String> {
        let named = wanted.is_some_and(|part| self.name.to_lowercase().contains(&part.to_lowercase()));
        match wanted {
            Some(part) if !named => Some(format!("its name does not contain {part:?}")),
            None if self.kind == Kind::Software => {
                Some(format!("it computes on the CPU; name it in {ADAPTER_VARIABLE} to use it"))
            }
            // Windows shows one card through two interfaces.
            _ if self.backend == "dx12"
                && all.iter().any(|a| a.name == self.name && a.backend == "vulkan") =>
            {
                Some("the same card is used through vulkan".into())
            }
            _ => None,
        }
    }
}

/// The place in `all` of the adapter that a device's name means: `""` the preferred one, a number of at most
/// two digits a usable one, counted from 0, and anything else a part of its name, be it a software one.
pub(super) fn place(all: &[Adapter], name: &str, wanted: Option<&str>) -> Result<usize> {
    if name.is_empty() || name.len() <= 2 && name.bytes().all(|c| c.is_ascii_digit()) {
        let (n, usable) = (name.parse().unwrap_or(0), usable(all, wanted)?);
        return match usable.get(n) {
            Some(&at) => Ok(at),
            None => bail!(Device, "of usable GPUs there are {}, counted from 0", usable.len()),
        };
    }
    let whole = usable(all, wanted)
        .unwrap_or_default()
        .into_iter()
        .chain(0..all.len())
        .find(|&at| all[at].name.eq_ignore_ascii_case(name));
    match whole {
        Some(at) => Ok(at),
        None => Ok(usable(all, Some(name))?[0]),
    }
}

/// What follows `gpu` in the name of the adapter at a place of `all`, so that [`place`] finds it again.
pub(super) fn suffix(all: &[Adapter], at: usize, wanted: Option<&str>) -> String {
    match usable(all, wanted).unwrap_or_default().iter().position(|&usable| usable == at) {
        Some(0) => String::new(),
        Some(n) => format!(":{n}"),
        None => format!(":{}", all[at].name),
    }
}

/// The usable adapters as indices into `all`, the preferred one first; `gpu:1` is the second of them.
/// When there is none, the error lists what was found and why each was rejected.
pub(super) fn usable(all: &[Adapter], wanted: Option<&str>) -> Result<Vec<usize>> {
    let mut usable: Vec<usize> =
        (0..all.len()).filter(|&i| all[i].rejection(all, wanted).is_none()).collect();
    usable.sort_by_key(|&i| all[i].kind);
    if !usable.is_empty() {
        return Ok(usable);
    }
    if all.is_empty() {
        bail!(
            Device,
            "no GPU: the system shows no adapter through {}; is a driver with its Vulkan loader installed?",
            if cfg!(target_os = "macos") { "Metal" } else { "Vulkan or DirectX 12" }
        );
    }
    let found: Vec<String> = all
        .iter()
        .map(|a| format!("{a}: {}", a.rejection(all, wanted).unwrap_or_else(|| "usable".into())))
        .collect();
    bail!(Device, "no GPU that may be used; found {}", found.join("; "))
}

/// The name of a PCI vendor.
fn vendor(id: u32) -> Option<&'static str> {
    Some(match id {
        0x1002 => "AMD",
        0x106b => "Apple",
        0x10005 => "Mesa",
        0x10de => "NVIDIA",
        0x13b5 => "ARM",
        0x1414 => "Microsoft",
        0x1ae0 => "Google",
        0x5143 => "Qualcomm",
        0x8086 => "Intel",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Error;

    fn adapter(name: &str, backend: &'static str, kind: Kind) -> Adapter {
        Adapter {
            name: name.into(),
            vendor: String::new(),
            backend,
            kind,
            driver: String::new(),
            max_buffer: 0,
            max_binding: 0,
            float16: false,
            int64: false,
            subgroups: false,
            cooperative: 0,
        }
    }

    #[test]
    fn discrete_cards_come_first_and_software_only_by_name() {
        let all = [
            adapter("llvmpipe (LLVM 15)", "vulkan", Kind::Software),
            adapter("UHD 630", "vulkan", Kind::Integrated),
            adapter("RTX 4070", "vulkan", Kind::Discrete),
            adapter("RTX 4070", "dx12", Kind::Discrete),
        ];
        assert_eq!(usable(&all, None).unwrap(), [2, 1]);
        assert_eq!(usable(&all, Some("LLVMpipe")).unwrap(), [0]);
        assert_eq!(usable(&all, Some("rtx")).unwrap(), [2]);
    }

    #[test]
    fn names_lead_to_adapters_and_back() {
        let all = [
            adapter("llvmpipe (LLVM 15)", "vulkan", Kind::Software),
            adapter("UHD 630", "vulkan", Kind::Integrated),
            adapter("RTX 4070", "vulkan", Kind::Discrete),
            adapter("RTX 4070 Ti", "vulkan", Kind::Discrete),
        ];
        let found = ["", "0", "1", "2", "uhd", "LLVMpipe", "4070", "4070 ti", "rtx 4070"];
        let places = found.map(|name| place(&all, name, None).unwrap());
        assert_eq!(places, [2, 2, 3, 1, 1, 0, 2, 3, 2]);
        assert_eq!([0, 1, 2, 3].map(|at| suffix(&all, at, None)), [":llvmpipe (LLVM 15)", ":2", "", ":1"]);
        for wanted in [None, Some("llvmpipe"), Some("rtx"), Some("nothing")] {
            for at in 0..all.len() {
                let suffix = suffix(&all, at, wanted);
                assert_eq!(place(&all, suffix.trim_start_matches(':'), wanted).unwrap(), at);
            }
        }
        let error = place(&all, "3", None).unwrap_err().to_string();
        assert!(error.contains("there are 3, counted from 0"), "{error}");
        assert!(place(&all, "radeon", None).unwrap_err().to_string().contains("\"radeon\""));
    }

    #[test]
    fn errors_list_what_was_found() {
        let message = |all: &[Adapter], wanted| match usable(all, wanted) {
            Err(Error::Device(message)) => message,
            other => panic!("{other:?}"),
        };
        let all = [adapter("llvmpipe", "vulkan", Kind::Software)];
        let text = message(&all, None);
        assert!(text.contains("llvmpipe (vulkan, software): it computes on the CPU"), "{text}");
        assert!(text.contains(ADAPTER_VARIABLE), "{text}");
        assert!(message(&all, Some("rtx")).contains("does not contain \"rtx\""));
        assert!(message(&[], None).contains("driver"));
    }
}
