//! NVIDIA's GPUs, by its management library (NVML), which is loaded when it is asked and is there with its driver.

use dms_messages::{Gpu, MemoryMib};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::{GpuError, GpuLister, MAX_GPUS};
use crate::host::plain;

/// The vendor's name.
const VENDOR: &str = "nvidia";

/// NVIDIA's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nvidia;

impl GpuLister for Nvidia {
    fn vendor(&self) -> &'static str {
        VENDOR
    }

    fn list(&self) -> Result<Vec<Gpu>, GpuError> {
        listed().map_err(|error| GpuError(crate::errors::whole(&error)))
    }
}

fn listed() -> Result<Vec<Gpu>, NvmlError> {
    let library = Nvml::init()?;
    let count = library.device_count()?.min(MAX_GPUS as u32);
    let gpu = |index| {
        let device = library.device_by_index(index)?;
        // Older drivers do not say all of it; a GPU is there nevertheless.
        let memory = device.memory_info().map_or(0, |memory| memory.total >> 20);
        let model = plain(&device.name().unwrap_or_default());
        Ok(Gpu { vendor: VENDOR.to_owned(), model, memory: MemoryMib(memory) })
    };
    (0..count).map(gpu).collect()
}
