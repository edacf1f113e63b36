//! AMD's GPUs, by what its driver shows below `/sys/class/drm`.

use std::path::{Path, PathBuf};

use dms_messages::{Gpu, MemoryMib};

use super::drm::{Card, cards};
use super::{GpuError, GpuLister};

/// The vendor's name.
const VENDOR: &str = "amd";
/// The vendor's number on the PCI bus.
const PCI_VENDOR: u16 = 0x1002;

/// AMD's, as a directory of cards shows them.
#[derive(Debug, Clone)]
pub(super) struct Amd {
    drm: PathBuf,
}

impl Amd {
    pub(super) fn new(drm: &Path) -> Self {
        Self { drm: drm.to_path_buf() }
    }
}

impl GpuLister for Amd {
    fn vendor(&self) -> &'static str {
        VENDOR
    }

    fn list(&self) -> Result<Vec<Gpu>, GpuError> {
        let gpu = |card: Card| {
            let memory = card.number("mem_info_vram_total").unwrap_or(0) >> 20;
            Gpu { vendor: VENDOR.to_owned(), model: card.model("AMD"), memory: MemoryMib(memory) }
        };
        Ok(cards(&self.drm, PCI_VENDOR)?.into_iter().map(gpu).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::drm::tests::tree;
    use super::*;

    #[test]
    fn cards_have_their_memory_and_their_name() {
        let drm = tree(&[
            ("card1/device/vendor", "0x1002\n"),
            ("card1/device/device", "0x73bf\n"),
            ("card1/device/mem_info_vram_total", "17163091968\n"),
            ("card0/device/vendor", "0x1002\n"),
            ("card0/device/product_name", "AMD Radeon Pro\n"),
            ("card2/device/vendor", "0x8086\n"),
        ]);
        let found = Amd::new(drm.path()).list().unwrap();
        let gpu = |model: &str, memory| Gpu {
            vendor: VENDOR.into(),
            model: model.into(),
            memory: MemoryMib(memory),
        };
        assert_eq!(found, [gpu("AMD Radeon Pro", 0), gpu("AMD 0x73bf", 16_368)]);
    }
}
